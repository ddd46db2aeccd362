"""Reading objects: the whole content, a byte range, or only the metadata."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Any, BinaryIO, Final
from urllib.parse import quote

from aiohttp import web

from deploy.local.gateway.rest_errors import json_response
from deploy.local.gateway.storage.buckets import format_time
from deploy.local.gateway.storage.errors import BAD_RANGE, NO_BUCKET, NO_OBJECT, StorageApiError
from deploy.local.gateway.storage.files import CHUNK_BYTES
from deploy.local.gateway.storage.objects import Objects
from deploy.local.gateway.tokens import Caller

RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


class Downloads:
    """Handlers of the routes that read objects."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def read(self, request: web.Request, caller: Caller | None) -> web.StreamResponse:
        """Send an object that the caller may read; without a caller, only an object of a public bucket."""
        bucket, key = request.match_info["bucket"], request.match_info["path"]
        if caller is None:
            return await self.read_public(request)
        return await self.send(request, await self._objects.find(caller, bucket, key))

    async def read_public(self, request: web.Request) -> web.StreamResponse:
        """Send an object of a public bucket. For a private bucket the response is that there is no such bucket."""
        bucket, key = request.match_info["bucket"], request.match_info["path"]
        if not (await self._objects.bucket(bucket))["public"]:
            raise StorageApiError(*NO_BUCKET)
        return await self.send(request, await self._objects.find(None, bucket, key))

    async def info(self, request: web.Request, caller: Caller) -> web.Response:
        """Return the metadata of an object."""
        row = await self._objects.find(caller, request.match_info["bucket"], request.match_info["path"])
        metadata = json.loads(row["metadata"])
        answer = {
            "id": str(row["id"]),
            "name": row["name"],
            "version": row["version"],
            "bucket_id": row["bucket_id"],
            "size": metadata["size"],
            "content_type": metadata["mimetype"],
            "cache_control": metadata["cacheControl"],
            "etag": metadata["eTag"],
            "metadata": json.loads(row["user_metadata"]) if row["user_metadata"] else None,
            "last_modified": metadata["lastModified"],
            "created_at": format_time(row["created_at"]),
        }
        response = json_response(answer)
        response.headers.update({"ETag": metadata["eTag"], "Cache-Control": metadata["cacheControl"]})
        response.headers["Last-Modified"] = _http_time(metadata)
        return response

    async def send(
        self, request: web.Request, row: Mapping[str, Any], *, expires: datetime | None = None
    ) -> web.StreamResponse:
        """Send an object's bytes: all, the requested range, or 304 without a body when the client's ETag matches.

        `expires` is the time at which the signed URL of the request expires.
        """
        metadata = json.loads(row["metadata"])
        try:
            file, size = self._objects.files.open(row["bucket_id"], row["name"])
        except FileNotFoundError:
            raise StorageApiError(*NO_OBJECT) from None
        with file:
            headers = _headers(request, metadata, expires)
            if request.headers.get("If-None-Match") == metadata["eTag"]:
                return web.Response(status=304, headers=headers)
            first, count = _byte_range(request.headers.get("Range"), size)
            whole = count == size and "Range" not in request.headers
            response = web.StreamResponse(status=200 if whole else 206, headers=headers)
            if not whole:
                response.headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{size}"
            response.content_length = count
            await response.prepare(request)
            if request.method != "HEAD":
                await _write_range(file, response, first, count)
            await response.write_eof()
        return response


async def _write_range(file: BinaryIO, response: web.StreamResponse, first: int, count: int) -> None:
    file.seek(first)
    while count and (chunk := file.read(min(CHUNK_BYTES, count))):
        await response.write(chunk)
        count -= len(chunk)


def _byte_range(wanted: str | None, size: int) -> tuple[int, int]:
    """Return the first byte and the byte count for a Range header. Raises StorageApiError (416) for an invalid one."""
    if wanted is None:
        return 0, size
    match = RANGE.fullmatch(wanted.strip())
    if match is None or not (match[1] or match[2]):
        raise StorageApiError(*BAD_RANGE)
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first > last:
        raise StorageApiError(*BAD_RANGE)
    return first, last - first + 1


def _headers(request: web.Request, metadata: Mapping[str, Any], expires: datetime | None) -> dict[str, str]:
    headers = {
        "Content-Type": metadata["mimetype"],
        "Accept-Ranges": "bytes",
        "ETag": metadata["eTag"],
        "Last-Modified": _http_time(metadata),
    }
    # A cache must not keep the response of a signed URL after the URL has expired.
    if expires is None:
        headers["Cache-Control"] = metadata["cacheControl"]
    else:
        headers["Expires"] = format_datetime(expires, usegmt=True)
    name = request.query.get("download")
    if name is not None:
        headers["Content-Disposition"] = (
            f"attachment; filename={quote(name)}; filename*=UTF-8''{quote(name)}" if name else "attachment"
        )
    return headers


def _http_time(metadata: Mapping[str, Any]) -> str:
    return format_datetime(datetime.fromisoformat(metadata["lastModified"]), usegmt=True)
