"""Supabase Storage as the port of `handlers.storage`: stored once, and looked at afterwards."""

import base64
import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import stamina

from handlers.errors import StorageRejectedError, StorageUnavailableError
from handlers.storage.api import UPSERT, StorageApi
from handlers.storage.reply import CONFLICT, StorageReply
from handlers.storage.tus import OpenUploads, ResumableUpload
from handlers.storage.upload_file import UploadFile

MAX_SINGLE_REQUEST_BYTES: Final = 6 * 1024 * 1024
"""Supabase recommends resumable uploads above 6 MiB."""
TRIES: Final = 3
LONGEST_PAUSE_SECONDS: Final = 2.0


def _worth_waiting(error: Exception) -> bool:
    """Whether a moment's pause may help; what takes longer is for the job's own retry."""
    return isinstance(error, StorageUnavailableError) and (error.retry_after or 0) <= LONGEST_PAUSE_SECONDS


_patiently = stamina.AsyncRetryingCaller(
    attempts=TRIES, timeout=None, wait_initial=0.3, wait_jitter=0.2, wait_max=LONGEST_PAUSE_SECONDS
).on(_worth_waiting)


class SupabaseStorage:
    """The objects of one bucket."""

    def __init__(self, api: StorageApi, bucket: str, ids: OpenUploads) -> None:
        self.bucket = bucket
        self._api = api
        self._resumable = ResumableUpload(api, bucket, ids)

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:
        """Store a file, in one request up to 6 MiB, resumable above; return False when it is there already.

        What is there and differs, cut short perhaps, is replaced: the path holds the hash. Without `look` nobody asks
        whether what is new is there whole: `outlast_finish` will.

        Raises:
            StorageRejectedError: type, size, bucket, key or credentials are refused; or it stores other bytes.
            StorageUnavailableError: time-out, 429, 5xx, also where Storage hides it behind HTTP 400.
        """
        found = None
        for replace in (False, True):
            is_new = await self._send(path, content, replace=replace)
            if is_new and not verify:
                return True
            found = await _patiently(self._find, path)
            # Of what was there before the type counts, too: a browser shows what it says.
            typed = is_new or (found is not None and found.get("content_type") == content.content_type)
            if found is not None and typed and await self._holds(found, path, content):
                return is_new
        if found is None:
            raise StorageUnavailableError(f"Storage took {path}, and does not have it")
        raise StorageRejectedError(
            f"Storage has other bytes at {path} than it was sent, twice: {found['size']} of them for {content.size}"
        )

    async def exists(self, path: str) -> bool:
        """Whether Storage has the object. Raises as `put` does."""
        return await _patiently(self._find, path) is not None

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; those that are not there are as good.

        Raises:
            StorageRejectedError: bucket or credentials are refused.
            StorageUnavailableError: no answer; the objects may be there, or not.
        """
        reply = await self._api.send("remove", "DELETE", f"/object/{self.bucket}", body={"prefixes": list(paths)})
        reply.check()
        if not isinstance(reply.body, list):
            raise reply.foreign_error()

    async def fetch(self, path: str, target: Path) -> None:
        """Bring an object to disk.

        Raises:
            StorageRejectedError: it is not there, or credentials are refused.
            StorageUnavailableError: not this time.
        """
        with target.open("wb") as file:
            async with contextlib.aclosing(self._api.read(f"/object/{self.bucket}/{path}")) as pieces:
                async for piece in pieces:
                    file.write(piece)

    async def check_reachable(self) -> None:
        """Ask Storage for the bucket; a refusal is an answer. Raises StorageUnavailableError when there is none."""
        reply = await self._api.send("bucket", "GET", f"/bucket/{self.bucket}")
        if reply.outcome == "unavailable":
            raise reply.error()

    async def _send(self, path: str, content: UploadFile, *, replace: bool) -> bool:
        """Send the file; return False when Storage says that it has the object."""
        if content.size > MAX_SINGLE_REQUEST_BYTES:
            return await self._resumable.send(path, content, replace=replace)
        return await _patiently(self._send_at_once, path, content, replace=replace)

    async def _send_at_once(self, path: str, content: UploadFile, *, replace: bool) -> bool:
        headers = {
            "Content-Type": content.content_type,
            "Cache-Control": content.cache_control,
            "x-metadata": base64.b64encode(content.metadata.encode()).decode(),
            **UPSERT[replace],
        }
        whole = content.part(0, MAX_SINGLE_REQUEST_BYTES)
        reply = await self._api.send("upload", "POST", f"/object/{self.bucket}/{path}", headers, whole)
        if reply.status == CONFLICT:
            return False
        reply.check()
        _expect(reply, "Key", str)
        return True

    async def _find(self, path: str) -> dict[str, Any] | None:
        """Return what Storage knows of an object; None when there is none."""
        reply = await self._api.send("info", "GET", f"/object/info/{self.bucket}/{path}")
        if reply.outcome == "missing" and "bucket" not in reply.detail.lower():
            return None
        reply.check()
        _expect(reply, "size", int)
        info: dict[str, Any] = reply.body
        return info

    async def _holds(self, found: dict[str, Any], path: str, content: UploadFile) -> bool:
        """Whether the object found is the file. Where its ETag is no MD5 of the whole, its bytes are asked.

        An upload in several parts has the ETag `<something>-<parts>`: then our own note of the SHA-256 counts.
        """
        if found["size"] != content.size:
            return False
        tag, noted = str(found.get("etag", "")).strip('"'), found.get("metadata") or {}
        if tag == content.md5 or ("-" in tag and noted.get("sha256") == content.sha256):
            return True
        return await _patiently(self._sha256, path) == content.sha256

    async def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        async with contextlib.aclosing(self._api.read(f"/object/{self.bucket}/{path}")) as pieces:
            async for piece in pieces:
                digest.update(piece)
        return digest.hexdigest()


def _expect(reply: StorageReply, name: str, kind: type) -> None:
    """See that a success is Storage's. Raises StorageUnavailableError when its answer lacks what every one has."""
    if not isinstance(reply.body, dict) or not isinstance(reply.body.get(name), kind):
        raise reply.foreign_error()
