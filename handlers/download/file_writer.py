"""A file arriving on disk: counted, hashed and looked at on the way."""

import asyncio
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from handlers.errors import FileCorruptedError, FileSizeExceededError

HEAD_BYTES: Final = 4096
"""What an Inspect is shown: as much as tells a file's type."""

HeadCheck = Callable[[bytes], None]
"""Called once, in a thread, with the first HEAD_BYTES or the whole of a smaller file; what it raises ends the download.

Called again only when the source starts over with another file.
"""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """A source file on disk: its size in bytes and its SHA-256 as hex."""

    path: Path
    size: int
    sha256: str


class FileWriter:
    """Takes a file's content piece by piece, at most `limit` bytes. Blocks: call it in a thread, one at a time."""

    def __init__(self, target: Path, limit: int, inspect: HeadCheck | None = None) -> None:
        self.limit = limit
        self._target = target
        self._inspect = inspect
        self._file = io.FileIO(target, "wb")
        self._begin()

    def _begin(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._head = b""
        self._looking = self._inspect is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @property
    def wants(self) -> int:
        """Bytes that `inspect` still waits for; 0 when it has seen enough."""
        return HEAD_BYTES - len(self._head) if self._looking else 0

    def write(self, piece: bytes) -> None:
        """Append a piece.

        Raises:
            FileSizeExceededError: with it the file would be larger than `limit`; none of it is written.
            OSError: the disk does not take it.
        """
        if self.size + len(piece) > self.limit:
            raise too_large(self.limit)
        if self._looking:
            self._head += piece[: self.wants]
            if self.wants == 0:
                self._look()
        self.size += len(piece)
        self._digest.update(piece)
        left = memoryview(piece)
        while left:
            left = left[self._file.write(left) :]

    def restart(self) -> None:
        """Forget everything: another file comes."""
        self._file.seek(0)
        self._file.truncate()
        self._begin()

    def finish(self) -> DownloadedFile:
        """Return what has arrived; raise FileCorruptedError when that is nothing."""
        if self.size == 0:
            raise FileCorruptedError("the file is empty")
        if self._looking:
            self._look()
        return DownloadedFile(self._target, self.size, self._digest.hexdigest())

    def _look(self) -> None:
        self._looking = False
        if self._inspect is not None:
            self._inspect(self._head)


def too_large(limit: int) -> FileSizeExceededError:
    """Return the error of a file that is larger than `limit` bytes."""
    return FileSizeExceededError(f"the file is larger than {limit} bytes")


async def run_in_thread(function: Callable[..., T], *args: object) -> T:
    """Call a function that uses files in a thread. When cancelled, wait for its end, so that nobody uses them then."""
    running = asyncio.get_running_loop().run_in_executor(None, function, *args)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
