"""Objects on disk: `<folder>/<bucket>/<path>`. A file has a temporary name until it is complete.

An OSError (name too long, disk full, a file where a folder is needed) becomes a 500, as in the real Storage API.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from deploy.local.gateway.storage.errors import INTERNAL, StorageApiError

CHUNK_BYTES: Final = 256 * 1024
"""Bytes of a body that are read or sent at once."""


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an OSError into the Storage API's 500."""
    try:
        yield
    except OSError as error:
        raise StorageApiError(*INTERNAL) from error


class PartialFile:
    """A file that is being received. Counts and hashes the written bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.md5(usedforsecurity=False)  # Storage's ETag
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")

    @property
    def etag(self) -> str:
        """The quoted MD5 of the content."""
        return f'"{self._hash.hexdigest()}"'

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        with disk_errors():
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def close(self) -> None:
        """Finish writing."""
        with disk_errors():
            self._file.close()

    def discard(self) -> None:
        """Remove the file, unless it has been moved to its path."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class ObjectFiles:
    """The folder of one project's objects. Partial files are in a folder next to it, on the same file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.partial_folder = folder.with_name(f"{folder.name}.partial")

    def prepare(self) -> None:
        """Create the folder, and remove partial files of an earlier run, except those of resumable uploads."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.partial_folder.glob("*.part"):
            leftover.unlink(missing_ok=True)

    def receive(self) -> PartialFile:
        """Create a new partial file."""
        with disk_errors():
            return PartialFile(self.partial_folder / f"{uuid4()}.part")

    def path(self, bucket: str, key: str) -> Path:
        """Return the path of an object. `check_names` must have accepted the names, so that they stay in the folder."""
        return self.folder / bucket / key

    def place(self, partial: Path, bucket: str, key: str) -> None:
        """Move a received file to the object's path. Open downloads of the replaced file still read its old content."""
        path = self.path(bucket, key)
        with disk_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(path)

    def copy(self, bucket: str, source: str, target: str) -> None:
        """Copy an object within a bucket."""
        with disk_errors():
            partial = self.partial_folder / f"{uuid4()}.part"
            self.partial_folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path(bucket, source), partial)
        self.place(partial, bucket, target)

    def move(self, bucket: str, source: str, target: str) -> None:
        """Rename an object within a bucket."""
        self.place(self.path(bucket, source), bucket, target)

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object, if it is there."""
        with disk_errors():
            self.path(bucket, key).unlink(missing_ok=True)

    def open(self, bucket: str, key: str) -> tuple[BinaryIO, int]:
        """Open an object for reading; return the file and its size in bytes. Raises FileNotFoundError."""
        file = self.path(bucket, key).open("rb")
        return file, os.fstat(file.fileno()).st_size
