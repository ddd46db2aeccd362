"""A file on its way to Storage: what it is, and the pieces it is sent in."""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

PIECE: Final = 256 * 1024
ONE_YEAR: Final = "max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Part:
    """`size` bytes of a file, from `start` on: read as they are sent, so that no file is ever in memory."""

    path: Path
    start: int
    size: int

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            left = self.size
            while left and (piece := file.read(min(PIECE, left))):
                yield piece
                left -= len(piece)


@dataclass(frozen=True, slots=True)
class Content:
    """A file to be stored: size in bytes, digests as hex, and what Storage is to say of it."""

    path: Path
    size: int
    md5: str
    sha256: str
    content_type: str
    cache_control: str = ONE_YEAR

    @classmethod
    def of(cls, path: Path, content_type: str) -> Self:
        """Read a file through. MD5 is Storage's ETag, SHA-256 goes into the object's metadata."""
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            size = file.tell()
            file.seek(0)
            return cls(path, size, md5, hashlib.file_digest(file, "sha256").hexdigest(), content_type)

    @property
    def metadata(self) -> str:
        """What is kept with the object, as JSON."""
        return json.dumps({"sha256": self.sha256})

    def part(self, start: int, most: int) -> Part:
        """Return the part from `start` on, of at most `most` bytes."""
        return Part(self.path, start, min(most, self.size - start))
