"""Starts the download of a job's only file while the database is asked whether to run the job.

The answer is nearly always yes, so the download need not wait for the database. If the answer is no, the download is
cancelled.
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
"""Downloads a file to a path, and reserves its disk space in the DiskSpace."""


@dataclass(frozen=True, slots=True)
class EarlyDownload:
    """A download into `folder`, which exists until the context of `early_download` ends. `space` is its disk space."""

    folder: Path
    space: DiskSpace
    _task: asyncio.Task[DownloadedFile]

    async def result(self) -> DownloadedFile:
        """Wait for the file. Raises the errors of `Downloader.fetch`."""
        return await self._task


@contextlib.asynccontextmanager
async def early_download(
    downloader: Downloader, user: str | None, parent: Path, fetch: Fetch
) -> AsyncIterator[EarlyDownload]:
    """Start a download into a temporary folder in `parent`. It is cancelled if it is unfinished at the end."""
    with downloader.disk_space(user) as space:
        async with scratch(parent) as folder:
            task = asyncio.ensure_future(fetch(folder / "source", space))
            try:
                yield EarlyDownload(folder, space, task)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
