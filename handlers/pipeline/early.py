"""Starts the download of a job's only file while the database is asked whether to run the job.

The answer is nearly always yes, and both take a round trip. If it is no, the download ends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from handlers.download.file_writer import DownloadedFile
from handlers.tempdirs import scratch

Fetch = Callable[[Path], Awaitable[DownloadedFile]]


@dataclass(frozen=True, slots=True)
class EarlyDownload:
    """A download under way into `folder`, which exists as long as the context of `started`."""

    folder: Path
    _task: asyncio.Task[DownloadedFile]

    async def result(self) -> DownloadedFile:
        """Wait for the file. Raises the errors of `Downloader.fetch`."""
        return await self._task


@contextlib.asynccontextmanager
async def started(parent: Path, fetch: Fetch) -> AsyncIterator[EarlyDownload]:
    """Start a download into a temporary folder in `parent`. At the end it is cancelled if it is still under way."""
    async with scratch(parent) as folder:
        task = asyncio.ensure_future(fetch(folder / "source"))
        try:
            yield EarlyDownload(folder, task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
