"""Uploads in several requests, by the TUS protocol 1.0 (https://tus.io), that go on where they were broken off.

By this worker, or by another after a crash: the id of an open upload is on record in the database. A module of our own,
because tuspy 1.1 asks for the offset with a blocking request, opens a session for every chunk, holds it in memory and
has no time-outs of its own.
"""

import asyncio
import base64
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from handlers.errors import DatabaseUnavailableError, StorageUnavailableError
from handlers.storage.api import UPSERT, StorageApi
from handlers.storage.reply import ACCESS_DENIED, CONFLICT, StorageReply
from handlers.storage.upload_file import UploadFile

CHUNK_BYTES: Final = 6 * 1024 * 1024
"""What hosted Supabase takes in one request, but for the last."""
TUS: Final = {"Tus-ResumableUpload": "1.0.0"}
PART: Final = TUS | {"Content-Type": "application/offset+octet-stream"}
ROUTE: Final = "/upload/resumable"
UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9_=-]{1,2000}")
TRIES: Final = 6
LONGEST_PAUSE_SECONDS: Final = 4.0

log = logging.getLogger("async_file_processor.tus")


class _GoneError(Exception):
    """The upload is not there any more: it was given up, finished by somebody, or is older than a day."""


class _ThereAlreadyError(Exception):
    """The object is there."""


class OpenUploads:
    """Which upload is open for which object, in the database. Without it uploads work, but each worker starts anew."""

    def __init__(self, call: Callable[[str, dict[str, Any]], Awaitable[Any]], bucket: str) -> None:
        self._call = call
        self._bucket = bucket

    async def update(self, path: str, *, opened: str | None = None, gone: str | None = None) -> str | None:
        """Note that an upload was opened, unless another is open, or that one is gone; return which is open."""
        asked = {"p_bucket": self._bucket, "p_path": path, "p_opened": opened, "p_gone": gone}
        try:
            answer = await self._call("outlast_upload", asked)
        except DatabaseUnavailableError as error:
            log.warning("no other worker could resume this upload: %s", error)
            return opened
        known = answer.get("upload_id") if isinstance(answer, dict) else None
        return known if isinstance(known, str) and UPLOAD_ID.fullmatch(known) else opened


class _Patience:
    """Waits longer and longer while nothing moves; TRIES in a row without another byte stored are enough."""

    def __init__(self) -> None:
        self._furthest = -1
        self._fruitless = 0

    def note(self, offset: int) -> None:
        if offset > self._furthest:
            self._furthest, self._fruitless = offset, 0

    async def wait(self, error: StorageUnavailableError) -> None:
        self._fruitless += 1
        if self._fruitless >= TRIES or (error.retry_after or 0) > LONGEST_PAUSE_SECONDS:
            raise error
        await asyncio.sleep(max(error.retry_after or 0, min(LONGEST_PAUSE_SECONDS, 0.1 * 2**self._fruitless)))


class ResumableUpload:
    """ResumableUpload uploads to one bucket."""

    def __init__(self, api: StorageApi, bucket: str, ids: OpenUploads) -> None:
        self._api = api
        self._bucket = bucket
        self._open_uploads = ids

    async def send(self, path: str, content: UploadFile, *, replace: bool) -> bool:
        """Send a file, or what an earlier upload has not sent of it; return False when the object is there.

        Raises:
            StorageRejectedError: Storage refuses it.
            StorageUnavailableError: not a byte more was stored in some tries in a row.
        """
        patience = _Patience()
        upload_id = await self._open_uploads.update(path)
        while True:
            try:
                if upload_id is None:
                    opened = await self._open(path, content, replace=replace)
                    upload_id = await self._open_uploads.update(path, opened=opened) or opened
                await self._pour(upload_id, path, content, patience, replace=replace)
            except _ThereAlreadyError:
                return False
            except _GoneError:
                upload_id = await self._open_uploads.update(path, gone=upload_id)
                await patience.wait(StorageUnavailableError(f"upload: Storage forgot it, time and again: {path}"))
            except StorageUnavailableError as error:
                await patience.wait(error)
            else:
                await self._open_uploads.update(path, gone=upload_id)
                return True

    async def _open(self, path: str, content: UploadFile, *, replace: bool) -> str:
        """Open an upload and return its id, the last part of its address."""
        told = {
            "bucketName": self._bucket,
            "objectName": path,
            "contentType": content.content_type,
            "cacheControl": content.cache_control,
            "metadata": content.metadata,
        }
        metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in told.items())
        headers = TUS | {"Upload-Length": str(content.size), "Upload-Metadata": metadata} | UPSERT[replace]
        reply = await self._api.send("upload_open", "POST", ROUTE, headers)
        if reply.status == CONFLICT and not replace:
            raise _ThereAlreadyError
        reply.check()
        # Only the id is used: behind a proxy the address may name another host, which our key must not be sent to.
        upload_id = reply.headers.get("Location", "").rstrip("/").rpartition("/")[2]
        if UPLOAD_ID.fullmatch(upload_id) is None:
            raise reply.foreign_error()
        return upload_id

    async def _pour(
        self, upload_id: str, path: str, content: UploadFile, patience: _Patience, *, replace: bool
    ) -> None:
        """Send what is missing."""
        offset = await self._offset(upload_id, content.size)
        patience.note(offset)
        while offset < content.size:
            part = content.part(offset, CHUNK_BYTES)
            headers = PART | {"Upload-Offset": str(offset)} | UPSERT[replace]
            reply = await self._api.send("upload_part", "PATCH", f"{ROUTE}/{upload_id}", headers, part)
            if reply.outcome == "missing":
                raise _GoneError
            if reply.status == CONFLICT:
                await self._explain_conflict(path, replace=replace)
            reply.check()
            offset = _number(reply, "Upload-Offset", at_least=offset + 1)
            patience.note(offset)

    async def _offset(self, upload_id: str, size: int) -> int:
        """Return how many bytes Storage has."""
        reply = await self._api.send("upload_offset", "HEAD", f"{ROUTE}/{upload_id}", TUS)
        # An answer to HEAD has no body to tell a 404 from the 400 of an id that is none.
        if 400 <= reply.status < 500 and reply.status not in ACCESS_DENIED | {CONFLICT}:  # noqa: PLR2004 - its class
            error = reply.error()
            if isinstance(error, StorageUnavailableError):
                raise error
            raise _GoneError
        reply.check()
        if _number(reply, "Upload-Length") != size:
            raise _GoneError
        return _number(reply, "Upload-Offset")

    async def _explain_conflict(self, path: str, *, replace: bool) -> None:
        """Another worker has the object finished, or its bytes came first: then the offset must be asked for."""
        if not replace:
            found = await self._api.send("info", "GET", f"/object/info/{self._bucket}/{path}")
            if found.outcome == "ok":
                raise _ThereAlreadyError
        raise StorageUnavailableError(f"upload: another worker is sending {path}")


def _number(reply: StorageReply, name: str, at_least: int = 0) -> int:
    """Read a header that every such answer of Storage has."""
    text = reply.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and int(text) >= at_least):
        raise reply.foreign_error()
    return int(text)
