"""`/storage/v1/upload/resumable`: uploads in several requests, by the TUS protocol 1.0 (https://tus.io).

As in the real one, errors are plain text under their true status; bytes of a broken PATCH are kept; `x-upsert` must be
sent with every PATCH; of two writers at one offset the second waits and then gets 409. An upload of nothing is not
found, as with Supabase's hosted storage.
"""

import asyncio
import base64
import binascii
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from deploy.local.gateway.access import Caller
from deploy.local.gateway.incoming import CHUNK
from deploy.local.gateway.objects import Objects, check_names, check_rules
from deploy.local.gateway.storage_errors import TOO_LARGE, StorageRefusal
from deploy.local.gateway.tus_files import Upload, UploadFiles

VERSION: Final = "1.0.0"
BODY_TYPE: Final = "application/offset+octet-stream"
LARGEST: Final = 500 * 1024**2
PLAIN: Final = {"Content-Type": "text/plain;charset=UTF-8"}


class TusRefusal(Exception):  # noqa: N818 - an answer, not a fault
    """A refusal by the protocol itself."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


GONE: Final = (404, "The file for this url was not found\n")
CONFLICT: Final = (409, "Upload-Offset conflict\n")

Handler = Callable[["Resumable", web.Request, Caller], Awaitable[web.Response]]


def _plainly(handler: Handler) -> Handler:
    """Turn refusals into plain text under their true status."""

    async def answer(self: "Resumable", request: web.Request, caller: Caller) -> web.Response:
        try:
            if request.headers.get("Tus-Resumable") != VERSION:
                raise TusRefusal(400, "Invalid tus-resumable\n")  # noqa: TRY301 - one place turns refusals into answers
            return await handler(self, request, caller)
        except TusRefusal as refusal:
            return _answer(refusal.status, text=str(refusal))
        except StorageRefusal as refusal:
            text = "Maximum size exceeded\n" if refusal.code == TOO_LARGE[3] else refusal.message
            return _answer(refusal.status, text=text)

    return answer


class Resumable:
    """Handlers of the resumable route."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._files = UploadFiles(objects.files)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def options(self, _: web.Request) -> web.Response:
        """Tell what this server can do."""
        headers = {
            "Tus-Version": VERSION,
            "Tus-Extension": "creation,creation-with-upload,termination",
            "Tus-Max-Size": str(LARGEST),
        }
        return _answer(204, headers)

    @_plainly
    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Open an upload; bytes may come along."""
        length = _number(request, "Upload-Length")
        metadata = _read_metadata(request.headers.get("Upload-Metadata", ""))
        bucket, key = metadata["bucketName"], metadata["objectName"]
        check_names(bucket, key)
        rules = await self._objects.bucket(bucket)
        content_type = metadata.get("contentType", "application/octet-stream")
        check_rules(rules, content_type, length, LARGEST)
        await self._objects.check_may_write(caller, bucket, key, upsert=_upsert(request))
        if length == 0:
            raise TusRefusal(404, "NotFound")
        upload = self._files.create(bucket, key, length, request.headers["Upload-Metadata"], metadata)
        headers = {"Location": f"{request.scheme}://{request.host}{request.path.rstrip('/')}/{upload.id}"}
        if request.content_type == BODY_TYPE and request.can_read_body:
            async with self._locks[upload.version]:
                headers |= await self._receive(request, upload, 0)
        return _answer(201, headers)

    @_plainly
    async def head(self, request: web.Request, _: Caller) -> web.Response:
        """Tell how much has come; waits while a PATCH is on its way."""
        upload = self._find(request)
        async with self._locks[upload.version]:
            headers = {
                "Cache-Control": "no-store",
                "Upload-Length": str(upload.length),
                "Upload-Metadata": upload.header,
                "Upload-Offset": str(self._files.offset(upload)),
            }
        return _answer(200, headers)

    @_plainly
    async def append(self, request: web.Request, caller: Caller) -> web.Response:
        """Take the bytes from an offset on; the last of them put the object in its place."""
        if request.headers.get("Content-Type") != BODY_TYPE:
            raise TusRefusal(400, "Invalid content-type\n")
        start = _number(request, "Upload-Offset")
        upload = self._find(request)
        async with self._locks[upload.version]:
            await self._objects.check_may_write(caller, upload.bucket, upload.key, upsert=_upsert(request))
            return _answer(204, await self._receive(request, upload, start))

    @_plainly
    async def delete(self, request: web.Request, _: Caller) -> web.Response:
        """Give an upload up."""
        upload = self._find(request)
        async with self._locks[upload.version]:
            self._files.discard(upload)
        return _answer(204)

    def _find(self, request: web.Request) -> Upload:
        try:
            name = base64.urlsafe_b64decode(request.match_info["id"] + "==").decode()
        except ValueError:
            name = ""
        if name.count("/") < 2:  # noqa: PLR2004 - bucket, object, version
            raise TusRefusal(400, "Invalid upload id\n")
        upload = self._files.find(name)
        if upload is None:
            raise TusRefusal(*GONE)
        return upload

    async def _receive(self, request: web.Request, upload: Upload, start: int) -> dict[str, str]:
        """Append what comes; return the headers that tell where the upload stands."""
        if self._files.offset(upload) != start:
            raise TusRefusal(*CONFLICT)
        if start + (request.content_length or 0) > upload.length:
            raise TusRefusal(413, "upload's size exceeded\n")
        await self._append(request, upload)
        offset = self._files.offset(upload)
        headers = {"Upload-Offset": str(offset)}
        if offset == upload.length:
            await self._objects.put(upload.bucket, upload.key, await asyncio.to_thread(self._files.received, upload))
            headers["Tus-Complete"] = "1"
        return headers

    async def _append(self, request: web.Request, upload: Upload) -> None:
        """Write as the bytes come; what a broken connection brought stays for the next PATCH."""
        with self._files.appending(upload) as file:
            async for chunk in request.content.iter_chunked(CHUNK):
                if file.tell() + len(chunk) > upload.length:
                    raise TusRefusal(413, "upload's size exceeded\n")
                file.write(chunk)


def _answer(status: int, headers: dict[str, str] | None = None, text: str | None = None) -> web.Response:
    plain = {} if status == 204 else PLAIN  # noqa: PLR2004 - no content, no type
    body = None if text is None else text.encode()
    return web.Response(status=status, body=body, headers={**plain, "Tus-Resumable": VERSION, **(headers or {})})


def _upsert(request: web.Request) -> bool:
    return request.headers.get("x-upsert", "").lower() == "true"


def _number(request: web.Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit()):
        raise TusRefusal(400, f"Invalid {name.lower()}\n")
    return int(text)


def _read_metadata(header: str) -> dict[str, str]:
    """Read `name base64,name base64`; TusRefusal when it is malformed or does not name bucket and object."""
    try:
        pairs = (item.strip().partition(" ") for item in header.split(",") if item.strip())
        metadata = {name: base64.b64decode(value, validate=True).decode() for name, _, value in pairs}
    except (binascii.Error, UnicodeDecodeError):
        metadata = {}
    if not {"bucketName", "objectName"} <= metadata.keys():
        raise TusRefusal(400, "Invalid upload-metadata\n")
    return metadata
