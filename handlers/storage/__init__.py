"""Object storage: the Storage protocol, the objects' paths, and an implementation for a local folder.

`tests/contracts/test_storage.py` runs one suite against every implementation.
"""

import asyncio
import filecmp
import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

from handlers.storage.upload_file import UploadFile

SAFE_OWNER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@=+-]{0,127}")


class Storage(Protocol):
    """Stores objects by path. The content at a path never changes, because the path holds its hash."""

    bucket: str

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:
        """Store the file; return False when the same object exists already.

        An existing object that differs in size or hash, for example a truncated one, is replaced. `verify=False`
        skips the check that a new object is complete: use it when the database makes this check.

        Raises:
            StorageRejectedError: the object is refused for good.
            StorageUnavailableError: the object could not be stored this time.
        """

    async def exists(self, path: str) -> bool:
        """Return whether there is an object at the path. Raises StorageUnavailableError."""

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; missing ones are ignored. Raises StorageUnavailableError."""


def object_path(user_id: str | None, sha256: str, extension: str) -> str:
    """Return `{user_id}/{sha256[:2]}/{sha256}.{extension}`, with `anonymous` for no user.

    Storage keys allow only some ASCII characters, so any other user id is replaced by its hash.
    """
    owner = user_id or "anonymous"
    if not SAFE_OWNER.fullmatch(owner):
        owner = f"u-{hashlib.sha256(owner.encode()).hexdigest()[:32]}"
    return f"{owner}/{sha256[:2]}/{sha256}.{extension}"


class FolderStorage:
    """Stores objects in a local folder, under the paths that they would have in Supabase Storage."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self.bucket = bucket
        self._folder = folder

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:  # noqa: ARG002 - of the protocol
        """Copy the file atomically. Raises OSError when it cannot be written."""
        target = self._folder / path
        if await asyncio.to_thread(_is_same, content.path, target):
            return False
        await asyncio.to_thread(_copy, content.path, target)
        return True

    async def exists(self, path: str) -> bool:
        """Return whether the file exists."""
        return (self._folder / path).exists()

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove the files."""
        for path in paths:
            await asyncio.to_thread((self._folder / path).unlink, missing_ok=True)


def _is_same(source: Path, target: Path) -> bool:
    return target.exists() and filecmp.cmp(source, target, shallow=False)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{uuid4().hex}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
