"""A file on its way to Storage: what it is, and the pieces it is sent in."""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from handlers.media import Prepared

READ_BYTES: Final = 256 * 1024
ONE_YEAR: Final = "max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class FilePart:
    """`size` bytes of a file, from `start` on: read as they are sent, so that never more than PIECE is in memory."""

    path: Path
    start: int
    size: int

    @property
    def body(self) -> bytes | AsyncIterator[bytes]:
        """The bytes, as aiohttp sends them: what is one piece goes out with the request's head, in one system call."""
        if self.size > READ_BYTES:
            return self.pieces()
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            left = self.size
            while left and (piece := file.read(min(READ_BYTES, left))):
                yield piece
                left -= len(piece)


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A file to be stored: size in bytes, digests as hex, and what Storage is to say of it.

    MD5 is Storage's ETag, SHA-256 goes into the object's metadata.
    """

    path: Path
    size: int
    md5: str
    sha256: str
    content_type: str
    cache_control: str = ONE_YEAR

    @classmethod
    def from_path(cls, path: Path, content_type: str) -> Self:
        """Read a file through."""
        size, sha256, md5 = digests(path)
        return cls(path, size, md5, sha256, content_type)

    @classmethod
    def from_prepared(cls, prepared: Prepared) -> Self:
        """Take what the codec told of a file."""
        return cls(made.path, made.file_size, made.md5, made.sha256, made.content_type)

    @property
    def metadata(self) -> str:
        """What is kept with the object, as JSON."""
        return json.dumps({"sha256": self.sha256})

    def part(self, start: int, most: int) -> FilePart:
        """Return the part from `start` on, of at most `most` bytes."""
        return FilePart(self.path, start, min(most, self.size - start))


def digests(path: Path) -> tuple[int, str, str]:
    """Read a file through; return its size in bytes, its SHA-256 and its MD5 as hex."""
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            size += len(piece)
            sha256.update(piece)
            md5.update(piece)
    return size, sha256.hexdigest(), md5.hexdigest()
