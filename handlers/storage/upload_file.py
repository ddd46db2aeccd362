"""A file to upload to Storage, and the parts in which it is sent."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from handlers.media import Prepared, PreparedVariant
from handlers.media.describe import size_and_hashes

READ_BYTES: Final = 256 * 1024
CACHE_SECONDS: Final = 31_536_000
"""One year: a stored object never changes, because its path holds its hash."""
CACHE_CONTROL: Final = f"max-age={CACHE_SECONDS}, immutable"


@dataclass(frozen=True, slots=True)
class FilePart:
    """`size` bytes of a file from offset `start`. They are read while they are sent, READ_BYTES at a time."""

    path: Path
    start: int
    size: int

    @property
    def body(self) -> bytes | AsyncIterator[bytes]:
        """The bytes in a form that aiohttp accepts. A small part is sent with the headers in one system call."""
        if self.size > READ_BYTES:
            return self.pieces()
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces of at most READ_BYTES."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            left = self.size
            while left and (piece := file.read(min(READ_BYTES, left))):
                yield piece
                left -= len(piece)


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A file to upload: its size in bytes, its hashes as hex digits, and its type.

    Storage returns the MD5 as the object's ETag. The SHA-256 is stored in the object's metadata.
    """

    path: Path
    size: int
    md5: str
    sha256: str
    content_type: str

    @classmethod
    def from_path(cls, path: Path, content_type: str) -> Self:
        """Read a file to compute its size and hashes."""
        size, sha256, md5 = size_and_hashes(path)
        return cls(path, size, md5, sha256, content_type)

    @classmethod
    def from_prepared(cls, prepared: Prepared | PreparedVariant) -> Self:
        """Use the size and the hashes of `prepared`, which the worker has computed."""
        return cls(prepared.path, prepared.file_size, prepared.md5, prepared.sha256, prepared.content_type)

    @property
    def metadata(self) -> str:
        """The object's metadata as JSON."""
        return json.dumps({"sha256": self.sha256})

    def part(self, start: int, max_size: int) -> FilePart:
        """Return the part from offset `start` with at most `max_size` bytes."""
        return FilePart(self.path, start, min(max_size, self.size - start))
