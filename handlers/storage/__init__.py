"""Object storage: the Storage protocol, the objects' paths, and an implementation for a local folder.

`tests/contracts/test_storage.py` runs one suite against every implementation.
"""

import asyncio
import filecmp
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, Self
from uuid import uuid4

from handlers.storage.upload_file import UploadFile

NO_OWNER: Final = "anonymous"
PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@+:.-")
"""The characters of a folder's name that are not escaped, because Storage and URLs allow them."""
MAX_FOLDER_CHARACTERS: Final = 200


class Storage(Protocol):
    """Stores objects by path. The content at a path never changes, because the path holds its hash."""

    bucket: str

    def in_bucket(self, bucket: str) -> Self:
        """Return the storage of another bucket. It shares the connections."""

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:
        """Store the file; return False when the same object exists already.

        An existing object that differs in size or hash, for example a truncated one, is replaced. `verify=False`
        skips the check that a new object is complete: use it when the database makes this check.

        Raises:
            StorageRejectedError: the object is refused permanently.
            StorageUnavailableError: the object could not be stored this time.
        """

    async def exists(self, path: str) -> bool:
        """Return whether there is an object at the path. Raises the errors of `put`."""

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; missing ones are ignored. Raises the errors of `put`."""


def folder_name(name: str | None) -> str:
    """Return the folder of a user id, or of another value of a row. Characters that are not PLAIN become `=XX` by byte.

    The policy in the database computes the same from a user's claim `sub` (`outlast_folder_sql`), so a user can read
    the folder. No name gives `anonymous`. A folder of more than MAX_FOLDER_CHARACTERS is replaced by a hash.
    """
    if not name:
        return NO_OWNER
    escaped = "".join(char if char in PLAIN else _escape(char) for char in name)
    if escaped.startswith("."):
        escaped = _escape(".") + escaped[1:]
    elif escaped == NO_OWNER:  # a user with this id is another one than no user
        escaped = _escape(escaped[0]) + escaped[1:]
    if len(escaped) > MAX_FOLDER_CHARACTERS:
        return f"u-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return escaped


def object_path(user_id: str | None, sha256: str, extension: str, folders: Sequence[str | None] | None = None) -> str:
    """Return `{user_id}/{sha256[:2]}/{sha256}.{extension}`, with `anonymous` for no user.

    `folders` replace the user's folder. Storage keys allow only some ASCII characters; see `folder_name`.
    """
    names = "/".join(folder_name(name) for name in (folders or [user_id]))
    return f"{names}/{sha256[:2]}/{sha256}.{extension}"


def _escape(char: str) -> str:
    return "".join(f"={byte:02X}" for byte in char.encode())


class FolderStorage:
    """Stores objects in a local folder, under the paths that they would have in Supabase Storage."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self.bucket = bucket
        self._folder = folder

    def in_bucket(self, bucket: str) -> Self:
        """Return the storage of another bucket, in the same folder."""
        return self if bucket == self.bucket else type(self)(self._folder, bucket)

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:  # noqa: ARG002 - of the protocol
        """Copy the file atomically; return False if the same file is there. Raises OSError if it cannot be written."""
        target = self._folder / path
        if await asyncio.to_thread(_is_same, content.path, target):
            return False
        await asyncio.to_thread(_copy, content.path, target)
        return True

    async def exists(self, path: str) -> bool:
        """Return whether the file exists."""
        return (self._folder / path).exists()

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove the files; missing ones are ignored."""
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
