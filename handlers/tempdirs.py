"""Temporary folders that are removed even when the process that made them was killed.

Beside each folder is a lock file, which the process locks with flock before it makes the folder. The kernel releases
the lock when the process ends. So if a folder's lock file can be locked, the process that made the folder has ended,
and the next worker that starts removes the folder.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

from handlers.errors import FileProcessingError

MIN_FREE_BYTES: Final = 8 * 1024 * 1024
SMALL_FOLDER_BYTES: Final = 8 * 1024 * 1024
"""A folder of at most this size is removed on the event loop, which takes about a millisecond."""
PREFIX = "outlast-"
FOLDER_NAME = re.compile(PREFIX + "[0-9a-f]{32}")


@contextlib.asynccontextmanager
async def scratch(parent: Path) -> AsyncIterator[Path]:
    """Make a temporary folder in `parent` and remove it at the end, without blocking the event loop."""
    with locked_folder(parent) as folder:
        try:
            yield folder
        finally:
            await remove_folder(folder)


@contextlib.contextmanager
def locked_folder(parent: Path) -> Iterator[Path]:
    """Make a temporary folder in `parent`, with its lock file. The caller removes the folder, then ends the context."""
    folder = parent / f"{PREFIX}{uuid4().hex}"
    lock_file = _lock_file(folder)
    with _locked(lock_file):
        folder.mkdir()
        try:
            yield folder
        finally:
            lock_file.unlink(missing_ok=True)


async def remove_folder(folder: Path) -> None:
    """Remove a folder with its content; in a thread if it is large. Cancelling the caller does not stop the thread.

    A small folder is removed on the event loop. A thread needs the GIL after each of its many system calls, and waits
    up to 5 ms for it each time while the event loop is busy.
    """
    if not _remove_if_small(folder):
        await asyncio.shield(asyncio.to_thread(remove_tree, folder))


def _remove_if_small(folder: Path) -> bool:
    """Remove the folder if it is small and has no subfolders; return whether it no longer exists.

    Removing a small folder can fail: a codec process that has just been killed may have written one more file.
    """
    with contextlib.suppress(OSError):
        with os.scandir(folder) as found:
            entries = list(found)
        if sum(map(_size, entries)) <= SMALL_FOLDER_BYTES:
            for entry in entries:
                os.unlink(entry)  # noqa: PTH108 - building a Path takes longer than the call
            folder.rmdir()
    return not folder.exists()


def _size(entry: os.DirEntry[str]) -> int:
    """Return the size of a file; for a subfolder, a size that makes the folder count as large."""
    if entry.is_dir(follow_symlinks=False):
        return SMALL_FOLDER_BYTES + 1
    return entry.stat(follow_symlinks=False).st_size


def remove_tree(folder: Path) -> None:
    """Remove a folder with its content, if it exists."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> int:
    """Remove the folders in `parent` whose processes have ended; return how many there were.

    A folder is abandoned when its name matches FOLDER_NAME and its lock file can be locked.
    """
    locks = (lock for lock in parent.glob(f"{PREFIX}*.lock") if FOLDER_NAME.fullmatch(lock.stem))
    return sum(_remove_if_abandoned(lock.with_suffix("")) for lock in locks)


def check_free_space(parent: Path) -> None:
    """Raise FileProcessingError `disk_full` unless MIN_FREE_BYTES can be written to `parent`."""
    try:
        with tempfile.TemporaryFile(dir=parent) as file:
            os.posix_fallocate(file.fileno(), 0, MIN_FREE_BYTES)
    except OSError as error:
        raise FileProcessingError(f"TEMP_DIR: {error.strerror}", code="disk_full", retryable=True) from error


@contextlib.contextmanager
def _locked(lock_file: Path) -> Iterator[None]:
    """Make and lock a lock file. If another worker removes the file before it is locked, make it again."""
    while True:
        with lock_file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_same(lock_file, lock.fileno()):
                yield
                return


def _is_same(file: Path, descriptor: int) -> bool:
    """Return whether `file` is the path of the open file `descriptor`."""
    try:
        return file.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _remove_if_abandoned(folder: Path) -> bool:
    """Remove an abandoned folder, which may not exist, and its lock file; return whether it was abandoned."""
    lock_file = _lock_file(folder)
    try:
        with lock_file.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(folder)
            lock_file.unlink(missing_ok=True)
    except OSError:  # the lock is held, or the owner has just removed the lock file
        return False
    return True


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
