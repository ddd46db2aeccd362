"""Run `outlast process`: the pipeline once over some URLs, without a broker."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from uuid import uuid4

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from handlers.async_file_processor import AsyncFileProcessor
from handlers.pipeline.batch import job_from_urls
from schemas.files import ProcessingResult
from schemas.jobs import JobFile
from schemas.urls import redact_url
from worker.cli.printing import DONE, FAILED, PARTLY
from worker.observability.logs import configure
from worker.settings import Settings


class DownloadProgress:
    """A line on standard error that counts the bytes of all files together. `file_done` and `received` update it."""

    def __init__(self, files: int, *, shown: bool) -> None:
        self._files = files
        self._sizes: dict[str, tuple[int, int]] = {}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task(self._text(0), total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def received(self, file: JobFile, downloaded: int, total: int) -> None:
        """Count the bytes of a file. The total of files that have not begun is estimated from those that have."""
        self._sizes[file.source_key] = (downloaded, total)
        known = sum(size for _, size in self._sizes.values())
        estimated = known * self._files // len(self._sizes)
        self._bar.update(self._task, completed=sum(size for size, _ in self._sizes.values()), total=estimated)

    def file_done(self, completed: int, total: int, _url: str) -> None:
        """Count a file that ended."""
        self._bar.update(self._task, description=self._text(completed))
        if completed == total:
            received = sum(size for size, _ in self._sizes.values())
            self._bar.update(self._task, completed=received, total=received)

    @property
    def state(self) -> tuple[str, float, float | None]:
        """The description, the bytes received, and the bytes expected."""
        task = self._bar.tasks[0]
        return task.description, task.completed, task.total

    def _text(self, completed: int) -> str:
        return f"{completed}/{self._files} files"


async def process_once(
    urls: Sequence[str], user: str | None, generation: str | None, out: Path | None, *, as_json: bool
) -> int:
    """Process `urls` and print the result of each. Exit codes: 0 all stored, 1 none, 3 some."""
    settings = Settings.load()
    if out is not None:
        settings = settings.model_copy(update={"supabase_url": None, "out_dir": out})
    configure(settings)
    job = job_from_urls(urls, user, generation or str(uuid4()), settings.max_concurrent, settings)
    with DownloadProgress(len(job.files), shown=sys.stderr.isatty() and not as_json) as progress:
        async with AsyncFileProcessor(settings) as processor:
            result = await processor.process_job(job, progress.file_done, progress.received)
    _print(result, settings, as_json=as_json)
    if result.success:
        return DONE
    return PARTLY if result.processed_files else FAILED


def _print(result: ProcessingResult, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result.model_dump(mode="json")) + "\n")
        return
    table = Table("file", "type", "before", "after", "dimensions", "stored as")
    for file in result.processed_files:
        size = f"{file.width}x{file.height}" if file.width else ""
        table.add_row(
            file.original_filename,
            file.content_type,
            f"{file.original_size:,}",
            f"{file.file_size:,}",
            size,
            f"{file.bucket}/{file.path}" if settings.supabase_url else str(settings.out_dir / file.path),
        )
    for failed in result.failed_files:
        table.add_row(
            redact_url(failed.url), failed.code, "", "", "", failed.error, style="dim" if failed.is_skipped else "red"
        )
    Console().print(table)
