"""Temporary folders that leave nothing behind, not even when their process is killed.

Each has a lock file beside it, locked (flock) by its owner before the folder is made. The kernel drops the lock
with the process, so a folder whose lock can be had is nobody's, and the next worker removes it.
"""

import asyncio
import contextlib
import fcntl
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

PREFIX = "outlast-"
OURS = re.compile(PREFIX + "[0-9a-f]{32}")


@contextlib.asynccontextmanager
async def scratch(parent: Path) -> AsyncIterator[Path]:
    """A folder in `parent` that is removed whatever happens, without blocking the event loop."""
    with _owned(parent / f"{PREFIX}{uuid4().hex}") as folder:
        try:
            yield folder
        finally:
            await asyncio.shield(asyncio.to_thread(remove, folder))


def remove(folder: Path) -> None:
    """Remove a folder and all in it; one that is not there is as good."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> int:
    """Remove the folders that killed processes left in `parent`; return how many there were.

    Only what is certainly ours and nobody's any more: a folder of our naming whose lock file is there to be had.
    """
    return sum(_reclaim(folder) for folder in parent.glob(f"{PREFIX}*/") if OURS.fullmatch(folder.name))


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[Path]:
    lock_file = _lock_of(folder)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir()
        try:
            yield folder
        finally:
            lock_file.unlink(missing_ok=True)


def _reclaim(folder: Path) -> bool:
    lock_file = _lock_of(folder)
    try:
        with lock_file.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)
            lock_file.unlink(missing_ok=True)
    except OSError:  # no lock file: its owner removes it just now; a lock that is held: its owner lives
        return False
    return True


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
