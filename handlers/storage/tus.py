"""Uploads in several requests by the TUS protocol 1.0 (https://tus.io), which continue after an interruption.

The id of an open upload is recorded in the database, so that another worker can continue it after a crash. The tuspy
library (1.1) is not used: it requests the offset with a blocking call, opens a session for every chunk, holds the
chunk in memory and has no time-outs.
"""

import asyncio
import base64
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from handlers.errors import DatabaseUnavailableError, RowRejectedError, StorageUnavailableError
from handlers.storage.api import UPSERT, StorageApi
from handlers.storage.reply import ACCESS_DENIED, CONFLICT, StorageReply
from handlers.storage.upload_file import CACHE_SECONDS, UploadFile

CHUNK_BYTES: Final = 6 * 1024 * 1024
"""Hosted Supabase accepts only chunks of exactly this size, except for the last."""
TUS_HEADERS: Final = {"Tus-Resumable": "1.0.0"}
CHUNK_HEADERS: Final = TUS_HEADERS | {"Content-Type": "application/offset+octet-stream"}
ROUTE: Final = "/upload/resumable"
UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9_=-]{1,2000}")
ATTEMPTS: Final = 6
MAX_WAIT_SECONDS: Final = 4.0

log = logging.getLogger("async_file_processor.tus")


class _UploadGoneError(Exception):
    """The upload no longer exists: it was aborted, completed by another worker, or has expired."""


class _ObjectExistsError(Exception):
    """The object exists already."""


class OpenUploads:
    """Records open uploads by object path in the database, so that another worker can continue an upload."""

    def __init__(self, call: Callable[[str, dict[str, Any]], Awaitable[Any]], bucket: str) -> None:
        self._call = call
        self._bucket = bucket

    async def update(self, path: str, *, opened: str | None = None, gone: str | None = None) -> str | None:
        """Record that the upload `opened` was opened or that `gone` has ended; return the id of the open upload.

        With neither, only return the id. If another upload is recorded as open, `opened` is not recorded. If the
        database does not answer, `opened` is returned.
        """
        arguments = {"p_bucket": self._bucket, "p_path": path, "p_opened": opened, "p_gone": gone}
        try:
            answer = await self._call("outlast_upload", arguments)
        except (DatabaseUnavailableError, RowRejectedError) as error:
            log.warning("this upload is not recorded, so no other worker can continue it: %s", error)
            return opened
        upload_id = answer.get("upload_id") if isinstance(answer, dict) else None
        return upload_id if isinstance(upload_id, str) and UPLOAD_ID.fullmatch(upload_id) else opened


class _Backoff:
    """Waits longer after each failure in a row, and raises after ATTEMPTS failures without a new byte stored."""

    def __init__(self) -> None:
        self._offset = -1
        self._failures = 0

    def record_offset(self, offset: int) -> None:
        if offset > self._offset:
            self._offset, self._failures = offset, 0

    async def wait(self, error: StorageUnavailableError) -> None:
        self._failures += 1
        if self._failures >= ATTEMPTS or (error.retry_after or 0) > MAX_WAIT_SECONDS:
            raise error
        await asyncio.sleep(max(error.retry_after or 0, min(MAX_WAIT_SECONDS, 0.1 * 2**self._failures)))


class ResumableUpload:
    """Resumable uploads to one bucket."""

    def __init__(self, api: StorageApi, bucket: str, open_uploads: OpenUploads) -> None:
        self._api = api
        self._bucket = bucket
        self._open_uploads = open_uploads

    async def send(self, path: str, content: UploadFile, *, replace: bool) -> bool:
        """Upload a file, or the rest of an open upload; return False when the object exists already.

        Raises:
            StorageRejectedError: Storage refuses the file.
            StorageUnavailableError: ATTEMPTS failures in a row stored no new byte, or Storage asks for a longer wait.
        """
        backoff = _Backoff()
        upload_id = await self._open_uploads.update(path)
        while True:
            try:
                if upload_id is None:
                    opened = await self._open(path, content, replace=replace)
                    upload_id = await self._open_uploads.update(path, opened=opened) or opened
                await self._send_rest(upload_id, path, content, backoff, replace=replace)
            except _ObjectExistsError:
                return False
            except _UploadGoneError:
                upload_id = await self._open_uploads.update(path, gone=upload_id)
                await backoff.wait(StorageUnavailableError(f"upload: Storage repeatedly lost the upload of {path}"))
            except StorageUnavailableError as error:
                await backoff.wait(error)
            else:
                await self._open_uploads.update(path, gone=upload_id)
                return True

    async def _open(self, path: str, content: UploadFile, *, replace: bool) -> str:
        """Open an upload and return its id, which is the last segment of its URL."""
        fields = {
            "bucketName": self._bucket,
            "objectName": path,
            "contentType": content.content_type,
            # Whole seconds, of which Storage makes `max-age=`. Any other text is stored as `no-cache`.
            "cacheControl": str(CACHE_SECONDS),
            "metadata": content.metadata,
        }
        metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in fields.items())
        headers = TUS_HEADERS | {"Upload-Length": str(content.size), "Upload-Metadata": metadata} | UPSERT[replace]
        reply = await self._api.send("upload_open", "POST", ROUTE, headers)
        if reply.status == CONFLICT and not replace:
            raise _ObjectExistsError
        reply.check()
        # Use the id only. Behind a proxy the URL may have another host, which must not receive the service role key.
        upload_id = reply.headers.get("Location", "").rstrip("/").rpartition("/")[2]
        if UPLOAD_ID.fullmatch(upload_id) is None:
            raise reply.unexpected_answer()
        return upload_id

    async def _send_rest(
        self, upload_id: str, path: str, content: UploadFile, backoff: _Backoff, *, replace: bool
    ) -> None:
        """Send the bytes that Storage does not have yet."""
        offset = await self._fetch_offset(upload_id, content.size)
        backoff.record_offset(offset)
        while offset < content.size:
            chunk = content.part(offset, CHUNK_BYTES)
            headers = CHUNK_HEADERS | {"Upload-Offset": str(offset)} | UPSERT[replace]
            reply = await self._api.send("upload_part", "PATCH", f"{ROUTE}/{upload_id}", headers, chunk)
            if reply.outcome == "missing":
                raise _UploadGoneError
            if reply.status == CONFLICT:
                await self._raise_conflict(path, replace=replace)
            reply.check()
            offset = _int_header(reply, "Upload-Offset", at_least=offset + 1)
            backoff.record_offset(offset)

    async def _fetch_offset(self, upload_id: str, size: int) -> int:
        """Return how many bytes of the upload Storage has."""
        reply = await self._api.send("upload_offset", "HEAD", f"{ROUTE}/{upload_id}", TUS_HEADERS)
        # The answer to HEAD has no body, so a 400 for an invalid upload id looks like any other 400.
        if 400 <= reply.status < 500 and reply.status not in ACCESS_DENIED | {CONFLICT}:  # noqa: PLR2004 - 4xx
            error = reply.error()
            if isinstance(error, StorageUnavailableError):
                raise error
            raise _UploadGoneError
        reply.check()
        if _int_header(reply, "Upload-Length") != size:
            raise _UploadGoneError
        return _int_header(reply, "Upload-Offset")

    async def _raise_conflict(self, path: str, *, replace: bool) -> None:
        """Raise the error for a 409: another worker has completed the object, or is sending the same chunk."""
        if not replace:
            info = await self._api.send("info", "GET", f"/object/info/{self._bucket}/{path}")
            if info.outcome == "ok":
                raise _ObjectExistsError
        raise StorageUnavailableError(f"upload: another worker is sending {path}")


def _int_header(reply: StorageReply, name: str, at_least: int = 0) -> int:
    """Return a header's number; raise StorageUnavailableError when it is missing, invalid or too small."""
    text = reply.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and int(text) >= at_least):
        raise reply.unexpected_answer()
    return int(text)
