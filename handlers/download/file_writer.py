"""Writes a download to disk, with a size limit, a SHA-256 hash and a check of the first bytes."""

import asyncio
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from handlers.detect.signatures import HEAD_BYTES
from handlers.errors import FileCorruptedError, FileSizeExceededError

HeadCheck = Callable[[bytes], None]
"""Called in a thread with the first HEAD_BYTES, or with the whole of a smaller file. Raising ends the download.

The check is called again if the source starts over with another version of the file.
"""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """A source file on disk: its size in bytes and its SHA-256 as hex digits."""

    path: Path
    size: int
    sha256: str


class FileWriter:
    """Writes a file in pieces, at most `limit` bytes. The methods block, so call them in a thread, one at a time."""

    def __init__(self, target: Path, limit: int, check_head: HeadCheck | None = None) -> None:
        self.limit = limit
        self._target = target
        self._check_head = check_head
        self._file = io.FileIO(target, "wb")
        self._reset()

    def _reset(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._head = b""
        self._head_checked = self._check_head is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @property
    def missing_head_bytes(self) -> int:
        """How many bytes `check_head` still needs; 0 when it has been called."""
        return 0 if self._head_checked else HEAD_BYTES - len(self._head)

    def write(self, piece: bytes) -> None:
        """Append a piece.

        Raises:
            FileSizeExceededError: the file would become larger than `limit`; the piece is not written.
            FileProcessingError: what `check_head` raises.
            OSError: the file cannot be written.
        """
        if self.size + len(piece) > self.limit:
            raise too_large(self.limit)
        if not self._head_checked:
            self._head += piece[: self.missing_head_bytes]
            if self.missing_head_bytes == 0:
                self._run_head_check()
        self.size += len(piece)
        self._digest.update(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]

    def restart(self) -> None:
        """Discard everything written so far: the source starts over with another version of the file."""
        self._file.seek(0)
        self._file.truncate()
        self._reset()

    def finish(self) -> DownloadedFile:
        """Return the written file. Raises FileCorruptedError when the file is empty, and what `check_head` raises."""
        if self.size == 0:
            raise FileCorruptedError("the file is empty")
        if not self._head_checked:
            self._run_head_check()
        return DownloadedFile(self._target, self.size, self._digest.hexdigest())

    def _run_head_check(self) -> None:
        self._head_checked = True
        if self._check_head is not None:
            self._check_head(self._head)


def too_large(limit: int) -> FileSizeExceededError:
    """Return the error for a file that is larger than `limit` bytes."""
    return FileSizeExceededError(f"the file is larger than {limit} bytes")


async def run_in_thread(function: Callable[..., T], *args: object) -> T:
    """Call, in a thread, a function that uses open files.

    A cancelled caller waits until the function has ended, so that the files can be closed afterwards.
    """
    running = asyncio.get_running_loop().run_in_executor(None, function, *args)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
