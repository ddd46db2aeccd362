"""`POST` and `PUT /storage/v1/object/{bucket}/{path}`: an object in one request, streamed to disk."""

from aiohttp import web

from deploy.local.gateway.access import Caller
from deploy.local.gateway.incoming import Incoming, read_incoming
from deploy.local.gateway.objects import Objects, Received, check_names, check_rules
from deploy.local.gateway.rest_errors import json_answer
from deploy.local.gateway.storage_errors import TOO_LARGE, StorageRefusal


class Uploads:
    """Handlers of uploads in one request."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Store a new object; with `x-upsert: true` an existing one is replaced."""
        return await self._store(request, caller, upsert=request.headers.get("x-upsert", "").lower() == "true")

    async def update(self, request: web.Request, caller: Caller) -> web.Response:
        """Replace an object; one that is not there is made, as the real API does."""
        return await self._store(request, caller, upsert=True)

    async def _store(self, request: web.Request, caller: Caller, *, upsert: bool) -> web.Response:
        bucket, key = request.match_info["bucket"], request.match_info["path"]
        check_names(bucket, key)
        found = await self.receive(request, caller, bucket, key, upsert=upsert)
        return json_answer({"Key": f"{bucket}/{key}", "Id": found})

    async def receive(self, request: web.Request, caller: Caller, bucket: str, key: str, *, upsert: bool) -> str:
        """Check all that can be checked before the bytes, take them, store them; return the object's id."""
        rules = await self._objects.bucket(bucket)
        incoming = await read_incoming(request)
        most = check_rules(rules, incoming.content_type, incoming.size)
        await self._objects.check_may_write(caller, bucket, key, upsert=upsert)
        return await self._take(incoming, bucket, key, most)

    async def _take(self, incoming: Incoming, bucket: str, key: str, most: int) -> str:
        partial = self._objects.files.receive()
        try:
            async for chunk in incoming.chunks:
                partial.write(chunk)
                # The real API counts only forms: a raw body without a declared length slips past the limit.
                if incoming.form and partial.size > most:
                    raise StorageRefusal(*TOO_LARGE)
            partial.close()
            received = Received(
                partial.path,
                partial.size,
                partial.etag,
                incoming.content_type,
                incoming.cache_control,
                incoming.metadata,
                Received.version_name(),
            )
            return await self._objects.put(bucket, key, received)
        finally:
            partial.discard()
