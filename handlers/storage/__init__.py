"""Where finished files go: the port, the object's path, and the folder that stands in for Supabase.

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
    """Keeps objects by path; what is stored under a path never changes, since the path holds its hash."""

    bucket: str

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:
        """Store the file; return False when the object is there already, which is as good: the same size and hash.

        An object that differs, cut short perhaps, is replaced. Without `look` nobody asks whether one that is new is
        there whole: whoever records it does.

        Raises:
            StorageRejectedError: this object will never be taken as it is.
            StorageUnavailableError: not this time.
        """

    async def exists(self, path: str) -> bool:
        """Whether an object lies under the path. Raises StorageUnavailableError when that cannot be told."""

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; those that are not there are as good. Raises StorageUnavailableError."""


def object_path(user_id: str | None, sha256: str, extension: str) -> str:
    """Return `{user_id}/{sha256[:2]}/{sha256}.{ext}`; `anonymous` where there is no user.

    Storage keys allow only some ASCII, so an owner's name that does not fit is replaced by its hash.
    """
    owner = user_id or "anonymous"
    if not SAFE_OWNER.fullmatch(owner):
        owner = f"u-{hashlib.sha256(owner.encode()).hexdigest()[:32]}"
    return f"{owner}/{sha256[:2]}/{sha256}.{extension}"


class FolderStorage:
    """Stores under a folder of this machine, with the paths Supabase Storage would have."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self.bucket = bucket
        self._folder = folder

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:  # noqa: ARG002 - the port's signature
        """Copy the file; it appears whole or not at all. Raises OSError when the disk refuses."""
        target = self._folder / path
        if await asyncio.to_thread(_same, content.path, target):
            return False
        await asyncio.to_thread(_copy, content.path, target)
        return True

    async def exists(self, path: str) -> bool:
        """Whether the file is there."""
        return (self._folder / path).exists()

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove the files."""
        for path in paths:
            await asyncio.to_thread((self._folder / path).unlink, missing_ok=True)


def _same(source: Path, target: Path) -> bool:
    return target.exists() and filecmp.cmp(source, target, shallow=False)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{uuid4().hex}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
