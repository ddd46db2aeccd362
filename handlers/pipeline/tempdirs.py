"""Temporary folders that leave nothing behind, not even when their process is killed.

Each has a lock file beside it, locked (flock) by its owner before the folder is made. The kernel drops the lock
with the process, so a folder whose lock can be had is nobody's, and the next worker removes it.
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
"""What is removed from a page cache in a millisecond or so."""
PREFIX = "outlast-"
FOLDER_NAME = re.compile(PREFIX + "[0-9a-f]{32}")


@contextlib.asynccontextmanager
async def scratch(parent: Path) -> AsyncIterator[Path]:
    """A folder in `parent` that is removed whatever happens, without blocking the event loop."""
    with _owned(parent / f"{PREFIX}{uuid4().hex}") as folder:
        try:
            yield folder
        finally:
            await remove_folder(folder)


async def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it, in a thread where that may take long; a cancelled caller does not stop it.

    What is small goes at once: a thread has to ask for the interpreter at each of its many system calls, and waits up
    to 5 ms for it each time while the event loop is busy.
    """
    if not _is_gone_at_once(folder):
        await asyncio.shield(asyncio.to_thread(remove_tree, folder))


def _is_gone_at_once(folder: Path) -> bool:
    """Remove a folder unless it is large; a decoder that was just killed may have written one file more meanwhile."""
    if _size(folder) <= SMALL_FOLDER_BYTES:
        remove_tree(folder)
    return not folder.exists()


def _size(folder: Path) -> int:
    """Sum up the files in a folder and the folders in that; what cannot be looked at counts as large."""
    try:
        with os.scandir(folder) as entries:
            return sum(
                _size(Path(entry)) if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False).st_size
                for entry in entries
            )
    except OSError:
        return SMALL_FOLDER_BYTES + 1


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it; one that is not there is as good."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> int:
    """Remove the folders that killed processes left in `parent`; return how many there were.

    Only what is certainly ours and nobody's any more: what bears our naming and has a lock file that is to be had.
    """
    locks = (lock for lock in parent.glob(f"{PREFIX}*.lock") if FOLDER_NAME.fullmatch(lock.stem))
    return sum(_reclaim(lock.with_suffix("")) for lock in locks)


def check_free_space(parent: Path) -> None:
    """See that `parent` can be written to and has a little room; raise FileProcessingError `disk_full` when not."""
    try:
        with tempfile.TemporaryFile(dir=parent) as file:
            os.posix_fallocate(file.fileno(), 0, MIN_FREE_BYTES)
    except OSError as error:
        raise FileProcessingError(f"TEMP_DIR: {error.strerror}", code="disk_full", retryable=True) from error


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[Path]:
    lock_file = _lock_of(folder)
    with _locked(lock_file):
        folder.mkdir()
        try:
            yield folder
        finally:
            lock_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(lock_file: Path) -> Iterator[None]:
    """Make and hold a lock file; made anew where somebody swept it away before it was locked."""
    while True:
        with lock_file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if lock_file.exists() and lock_file.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                yield
                return


def _reclaim(folder: Path) -> bool:
    """Remove a folder, if there is one, and its lock file; return whether they were nobody's."""
    lock_file = _lock_of(folder)
    try:
        with lock_file.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(folder)
            lock_file.unlink(missing_ok=True)
    except OSError:  # no lock file: its owner removes it just now; a lock that is held: its owner lives
        return False
    return True


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
