"""Supabase Storage as an implementation of `handlers.storage.Storage`."""

import base64
import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from handlers.errors import StorageRejectedError, StorageUnavailableError
from handlers.retries import Retries
from handlers.storage.api import UPSERT, StorageApi
from handlers.storage.reply import CONFLICT, StorageReply
from handlers.storage.tus import OpenUploads, ResumableUpload
from handlers.storage.upload_file import CACHE_CONTROL, UploadFile

MAX_SINGLE_REQUEST_BYTES: Final = 6 * 1024 * 1024
"""Supabase recommends resumable uploads for files above 6 MiB."""
ATTEMPTS: Final = 3
MAX_WAIT_SECONDS: Final = 2.0


def _is_brief(error: Exception) -> bool:
    """Return whether the error may pass within MAX_WAIT_SECONDS. The retry of the job handles longer outages."""
    return isinstance(error, StorageUnavailableError) and (error.retry_after or 0) <= MAX_WAIT_SECONDS


_with_retries = Retries(_is_brief, attempts=ATTEMPTS, timeout=None, wait_max=MAX_WAIT_SECONDS)


class SupabaseStorage:
    """The objects of one bucket."""

    def __init__(self, api: StorageApi, bucket: str, open_uploads: OpenUploads) -> None:
        self.bucket = bucket
        self._api = api
        self._resumable = ResumableUpload(api, bucket, open_uploads)

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:
        """Store a file; return False when the same object exists already.

        Up to 6 MiB are sent in one request, larger files in a resumable upload. An existing object that differs, for
        example a truncated one, is replaced. `verify=False` skips the check that a new object is complete, because
        `outlast_finish` makes this check in SQL.

        Raises:
            StorageRejectedError: the type, size, bucket, key or credentials are refused, or Storage has stored other
                bytes than it was sent.
            StorageUnavailableError: time-out, 429 or 5xx, also those that Storage sends as HTTP 400.
        """
        info = None
        for replace in (False, True):
            is_new = await self._send(path, content, replace=replace)
            if is_new and not verify:
                return True
            info = await _with_retries(self._info, path)
            # The content type of an existing object must match, too: browsers use it to show the file.
            same_type = is_new or (info is not None and info.get("content_type") == content.content_type)
            if info is not None and same_type and await self._is_same(info, path, content):
                return is_new
        if info is None:
            raise StorageUnavailableError(f"Storage accepted {path}, but does not have it")
        raise StorageRejectedError(
            f"Storage has stored other bytes than it was sent, twice: {path} has {info['size']} bytes, "
            f"the file has {content.size}"
        )

    async def exists(self, path: str) -> bool:
        """Return whether Storage has the object. Raises the same errors as `put`."""
        return await _with_retries(self._info, path) is not None

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; missing ones are ignored.

        Raises:
            StorageRejectedError: the bucket or the credentials are refused.
            StorageUnavailableError: there is no answer; the objects may or may not have been removed.
        """
        reply = await self._api.send("remove", "DELETE", f"/object/{self.bucket}", body={"prefixes": list(paths)})
        reply.check()
        if not isinstance(reply.body, list):
            raise reply.unexpected_answer()

    async def fetch(self, path: str, target: Path) -> None:
        """Download an object to `target`.

        Raises:
            StorageRejectedError: the object is missing, or the credentials are refused.
            StorageUnavailableError: the object could not be downloaded this time.
        """
        with target.open("wb") as file:
            async with contextlib.aclosing(self._api.read(f"/object/{self.bucket}/{path}")) as pieces:
                async for piece in pieces:
                    file.write(piece)

    async def check_reachable(self) -> None:
        """Request the bucket. Raises StorageUnavailableError without an answer; a refusal counts as an answer."""
        reply = await self._api.send("bucket", "GET", f"/bucket/{self.bucket}")
        if reply.outcome == "unavailable":
            raise reply.error()

    async def _send(self, path: str, content: UploadFile, *, replace: bool) -> bool:
        """Upload the file; return False when the object exists already."""
        if content.size > MAX_SINGLE_REQUEST_BYTES:
            return await self._resumable.send(path, content, replace=replace)
        return await _with_retries(self._send_in_one_request, path, content, replace=replace)

    async def _send_in_one_request(self, path: str, content: UploadFile, *, replace: bool) -> bool:
        headers = {
            "Content-Type": content.content_type,
            "Cache-Control": CACHE_CONTROL,
            "x-metadata": base64.b64encode(content.metadata.encode()).decode(),
            **UPSERT[replace],
        }
        body = content.part(0, MAX_SINGLE_REQUEST_BYTES)
        reply = await self._api.send("upload", "POST", f"/object/{self.bucket}/{path}", headers, body)
        if reply.status == CONFLICT:
            return False
        reply.check()
        _check_field(reply, "Key", str)
        return True

    async def _info(self, path: str) -> dict[str, Any] | None:
        """Return an object's size, type, ETag and metadata; None when there is no such object."""
        reply = await self._api.send("info", "GET", f"/object/info/{self.bucket}/{path}")
        if reply.outcome == "missing" and "bucket" not in reply.detail.lower():
            return None
        reply.check()
        _check_field(reply, "size", int)
        info: dict[str, Any] = reply.body
        return info

    async def _is_same(self, info: dict[str, Any], path: str, content: UploadFile) -> bool:
        """Return whether the stored object is the file. If its ETag is not the file's MD5, its bytes are hashed.

        The ETag of an upload in several parts has the form `<hash>-<parts>`. Then the SHA-256 in the metadata counts.
        """
        if info["size"] != content.size:
            return False
        etag, metadata = str(info.get("etag", "")).strip('"'), info.get("metadata") or {}
        if etag == content.md5 or ("-" in etag and metadata.get("sha256") == content.sha256):
            return True
        return await _with_retries(self._sha256, path) == content.sha256

    async def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        async with contextlib.aclosing(self._api.read(f"/object/{self.bucket}/{path}")) as pieces:
            async for piece in pieces:
                digest.update(piece)
        return digest.hexdigest()


def _check_field(reply: StorageReply, name: str, kind: type) -> None:
    """Raise StorageUnavailableError when a success lacks a field that every such answer of Storage has."""
    if not isinstance(reply.body, dict) or not isinstance(reply.body.get(name), kind):
        raise reply.unexpected_answer()
