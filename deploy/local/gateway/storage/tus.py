"""`/storage/v1/upload/resumable`: uploads in several requests with the TUS protocol 1.0 (https://tus.io).

As in the real API, errors are plain text with their own status, the bytes of an interrupted PATCH are kept, and every
PATCH must send `x-upsert`. Of two concurrent writers at one offset the second waits and then gets 409. An upload of 0
bytes is an object at once.
"""

import asyncio
import base64
import binascii
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from deploy.local.gateway.storage.errors import TOO_LARGE, StorageApiError
from deploy.local.gateway.storage.files import CHUNK_BYTES
from deploy.local.gateway.storage.objects import Objects, check_limits, check_names
from deploy.local.gateway.storage.tus_files import MAX_UPLOAD_BYTES, Upload, UploadFiles
from deploy.local.gateway.tokens import Caller

TUS_VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,creation-defer-length,termination,expiration"
"""With files on disk the real API announces `expiration` too, but uploads do not expire: it sends no Upload-Expires."""
BODY_TYPE: Final = "application/offset+octet-stream"
PLAIN_TEXT: Final = {"Content-Type": "text/plain;charset=UTF-8"}


class TusError(Exception):
    """An error response of the TUS protocol."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


UPLOAD_NOT_FOUND: Final = (404, "The file for this url was not found\n")
CONFLICT: Final = (409, "Upload-Offset conflict\n")

Handler = Callable[["ResumableUploads", web.Request, Caller], Awaitable[web.Response]]


def _plain_text_errors(handler: Handler) -> Handler:
    """Translate errors to plain text with their own status."""

    async def translated(self: "ResumableUploads", request: web.Request, caller: Caller) -> web.Response:
        try:
            if request.headers.get("Tus-Resumable") != TUS_VERSION:
                raise TusError(400, "Invalid tus-resumable\n")  # noqa: TRY301 - translated below like all others
            return await handler(self, request, caller)
        except TusError as error:
            return _response(error.status, text=str(error))
        except StorageApiError as error:
            text = "Maximum size exceeded\n" if error.code == TOO_LARGE[3] else error.message
            return _response(error.status, text=text)

    return translated


class ResumableUploads:
    """Handlers of the routes for resumable uploads."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._files = UploadFiles(objects.files)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def options(self, _: web.Request) -> web.Response:
        """Return the supported TUS version and extensions."""
        headers = {
            "Tus-Version": TUS_VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(MAX_UPLOAD_BYTES),
        }
        return _response(204, headers)

    @_plain_text_errors
    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Create an upload. The request may contain its first bytes."""
        deferred = request.headers.get("Upload-Defer-Length") == "1" and "Upload-Length" not in request.headers
        length = None if deferred else _integer_header(request, "Upload-Length")
        metadata = _read_metadata(request.headers.get("Upload-Metadata", ""))
        bucket, key = metadata["bucketName"], metadata["objectName"]
        check_names(bucket, key)
        rules = await self._objects.bucket(bucket)
        content_type = metadata.get("contentType", "application/octet-stream")
        check_limits(rules, content_type, length, MAX_UPLOAD_BYTES)
        await self._objects.check_write_access(caller, bucket, key, upsert=_upsert(request))
        upload = self._files.create(bucket, key, length, request.headers["Upload-Metadata"], metadata)
        headers = {"Location": f"{request.scheme}://{request.host}{request.path.rstrip('/')}/{upload.id}"}
        if length == 0:
            headers |= await self._finish(upload)
        elif request.content_type == BODY_TYPE and request.can_read_body:
            async with self._locks[upload.version]:
                headers |= await self._receive(request, upload, 0)
        return _response(201, headers)

    @_plain_text_errors
    async def head(self, request: web.Request, _: Caller) -> web.Response:
        """Return the number of received bytes. Waits for a PATCH that is in progress."""
        upload = self._find(request)
        async with self._locks[upload.version]:
            headers = {
                "Cache-Control": "no-store",
                **({"Upload-Defer-Length": "1"} if upload.length is None else {"Upload-Length": str(upload.length)}),
                "Upload-Metadata": upload.header,
                "Upload-Offset": str(self._files.offset(upload)),
            }
        return _response(200, headers)

    @_plain_text_errors
    async def append(self, request: web.Request, caller: Caller) -> web.Response:
        """Append bytes at an offset. After the last byte the object is stored."""
        if request.headers.get("Content-Type") != BODY_TYPE:
            raise TusError(400, "Invalid content-type\n")
        start = _integer_header(request, "Upload-Offset")
        upload = self._find(request)
        async with self._locks[upload.version]:
            await self._objects.check_write_access(caller, upload.bucket, upload.key, upsert=_upsert(request))
            if upload.length is None and "Upload-Length" in request.headers:
                upload = await self._declare_length(request, upload)
            return _response(204, await self._receive(request, upload, start))

    @_plain_text_errors
    async def delete(self, request: web.Request, _: Caller) -> web.Response:
        """Cancel an upload."""
        upload = self._find(request)
        async with self._locks[upload.version]:
            self._files.discard(upload)
        return _response(204)

    async def _declare_length(self, request: web.Request, upload: Upload) -> Upload:
        """Set the length of an upload that was created without one."""
        length = _integer_header(request, "Upload-Length")
        if length < self._files.offset(upload):
            raise TusError(400, "Invalid upload-length\n")
        content_type = upload.metadata.get("contentType", "application/octet-stream")
        check_limits(await self._objects.bucket(upload.bucket), content_type, length, MAX_UPLOAD_BYTES)
        return self._files.declare_length(upload, length)

    def _find(self, request: web.Request) -> Upload:
        try:
            name = base64.urlsafe_b64decode(request.match_info["id"] + "==").decode()
        except ValueError:
            name = ""
        if name.count("/") < 2:  # noqa: PLR2004 - bucket, object, version
            raise TusError(400, "Invalid upload id\n")
        upload = self._files.find(name)
        if upload is None:
            raise TusError(*UPLOAD_NOT_FOUND)
        return upload

    async def _receive(self, request: web.Request, upload: Upload, start: int) -> dict[str, str]:
        """Append the request's body; return the headers with the new offset."""
        if self._files.offset(upload) != start:
            raise TusError(*CONFLICT)
        if start + (request.content_length or 0) > upload.max_bytes:
            raise TusError(413, "upload's size exceeded\n")
        await self._append(request, upload)
        offset = self._files.offset(upload)
        headers = {"Upload-Offset": str(offset)}
        return headers | (await self._finish(upload) if offset == upload.length else {})

    async def _finish(self, upload: Upload) -> dict[str, str]:
        """Store a completely received upload as an object; return the header Tus-Complete."""
        await self._objects.put(upload.bucket, upload.key, await asyncio.to_thread(self._files.finish, upload))
        return {"Tus-Complete": "1"}

    async def _append(self, request: web.Request, upload: Upload) -> None:
        """Write bytes as they arrive. If the connection breaks, the next PATCH continues after them."""
        with self._files.open_for_append(upload) as file:
            async for chunk in request.content.iter_chunked(CHUNK_BYTES):
                if file.tell() + len(chunk) > upload.max_bytes:
                    raise TusError(413, "upload's size exceeded\n")
                file.write(chunk)


def _response(status: int, headers: dict[str, str] | None = None, text: str | None = None) -> web.Response:
    plain = {} if status == 204 else PLAIN_TEXT  # noqa: PLR2004 - no content, no type
    body = None if text is None else text.encode()
    return web.Response(status=status, body=body, headers={**plain, "Tus-Resumable": TUS_VERSION, **(headers or {})})


def _upsert(request: web.Request) -> bool:
    return request.headers.get("x-upsert", "").lower() == "true"


def _integer_header(request: web.Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit()):
        raise TusError(400, f"Invalid {name.lower()}\n")
    return int(text)


def _read_metadata(header: str) -> dict[str, str]:
    """Parse `name base64,name base64`. Raises TusError when it is malformed or lacks the bucket or the object name."""
    try:
        pairs = (item.strip().partition(" ") for item in header.split(",") if item.strip())
        metadata = {name: base64.b64decode(value, validate=True).decode() for name, _, value in pairs}
    except (binascii.Error, UnicodeDecodeError):
        metadata = {}
    if not {"bucketName", "objectName"} <= metadata.keys():
        raise TusError(400, "Invalid upload-metadata\n")
    return metadata
