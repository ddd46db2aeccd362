"""`POST` and `PUT /storage/v1/object/{bucket}/{path}`: uploads in one request, streamed to disk."""

from datetime import UTC, datetime

from aiohttp import web

from deploy.local.gateway.rest_errors import json_response
from deploy.local.gateway.storage.errors import TOO_LARGE, StorageApiError
from deploy.local.gateway.storage.objects import Objects, ReceivedFile, check_limits, check_names
from deploy.local.gateway.storage.upload_body import UploadBody, read_upload_body
from deploy.local.gateway.tokens import Caller


class StandardUploads:
    """Handlers of uploads in one request."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Store a new object. With `x-upsert: true` an existing object is replaced."""
        return await self._store(request, caller, upsert=request.headers.get("x-upsert", "").lower() == "true")

    async def update(self, request: web.Request, caller: Caller) -> web.Response:
        """Replace an object. As in the real API, it is created when it does not exist."""
        return await self._store(request, caller, upsert=True)

    async def _store(self, request: web.Request, caller: Caller, *, upsert: bool) -> web.Response:
        bucket, key = request.match_info["bucket"], request.match_info["path"]
        check_names(bucket, key)
        found = await self.receive(request, caller, bucket, key, upsert=upsert)
        return json_response({"Key": f"{bucket}/{key}", "Id": found})

    async def receive(self, request: web.Request, caller: Caller, bucket: str, key: str, *, upsert: bool) -> str:
        """Check the request, receive its content and store the object; return the object's id."""
        arrived = datetime.now(UTC)
        rules = await self._objects.bucket(bucket)
        body = await read_upload_body(request)
        max_bytes = check_limits(rules, body.content_type, body.size)
        await self._objects.check_write_access(caller, bucket, key, upsert=upsert, arrived=arrived)
        return await self._receive_file(body, bucket, key, max_bytes)

    async def _receive_file(self, body: UploadBody, bucket: str, key: str, max_bytes: int) -> str:
        partial = self._objects.files.receive()
        try:
            async for chunk in body.chunks:
                partial.write(chunk)
                # The real API counts the bytes of forms only, so a raw body without a Content-Length has no limit.
                if body.form and partial.size > max_bytes:
                    raise StorageApiError(*TOO_LARGE)
            partial.close()
            received = ReceivedFile(
                partial.path,
                partial.size,
                partial.etag,
                body.content_type,
                body.cache_control,
                body.metadata,
                ReceivedFile.new_version(),
            )
            return await self._objects.put(bucket, key, received)
        finally:
            partial.discard()
