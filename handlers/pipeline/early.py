"""Starts the download of a job's only file while the database is asked whether to run the job.

The answer is nearly always yes, and both take a round trip. If it is no, the download ends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from handlers.download import Downloader
from handlers.download.disk_space import DiskSpace
from handlers.download.file_writer import DownloadedFile
from handlers.tempdirs import scratch

Fetch = Callable[[Path, DiskSpace], Awaitable[DownloadedFile]]
"""Downloads a file to a path, within its disk space."""


@dataclass(frozen=True, slots=True)
class EarlyDownload:
    """A download under way into `folder`, which exists as long as the context of `started`."""

    folder: Path
    space: DiskSpace
    _task: asyncio.Task[DownloadedFile]

    async def result(self) -> DownloadedFile:
        """Wait for the file. Raises the errors of `Downloader.fetch`."""
        return await self._task


@contextlib.asynccontextmanager
async def started(downloader: Downloader, user: str | None, parent: Path, fetch: Fetch) -> AsyncIterator[EarlyDownload]:
    """Start a download into a temporary folder in `parent`. At the end it is cancelled if it is still under way."""
    with downloader.disk_space(user) as space:
        async with scratch(parent) as folder:
            task = asyncio.ensure_future(fetch(folder / "source", space))
            try:
                yield EarlyDownload(folder, space, task)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
