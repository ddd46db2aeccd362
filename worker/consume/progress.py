"""What an attempt records while it runs: its log line and spans (AttemptLog), the task's progress (TaskProgress)."""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final
from uuid import UUID

import structlog

from handlers.database.task_queries import TaskQueries
from handlers.errors import FileProcessingError
from handlers.observer import AttemptHooks
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import JobFile
from schemas.tasks import Progress
from worker.observability import tracing

log = structlog.stdlib.get_logger(__name__)
WRITE_SECONDS: Final = 1.0


class TaskProgress:
    """Counts files and bytes of one attempt. `changed` is True while the database has older figures."""

    def __init__(self, task_id: UUID, lease: UUID, total: int, stored: int) -> None:
        self.changed = True
        self._task_id = task_id
        self._lease = lease
        self._total = total
        self._stored = stored
        self._failed = 0
        self._downloads: dict[str, tuple[int, int]] = {}

    def received(self, file: JobFile, downloaded: int, size: int) -> None:
        """Record the bytes downloaded of a file; `size` equals `downloaded` while the file's size is unknown."""
        self._downloads[file.source_key] = (downloaded, size)
        self.changed = True

    def file_done(self, file: JobFile, result: ProcessedFile | FailedFile) -> None:
        """Count a file as stored or failed."""
        self._downloads.pop(file.source_key, None)
        if isinstance(result, ProcessedFile):
            self._stored += 1
        else:
            self._failed += 1
        self.changed = True

    def to_dict(self) -> dict[str, Any]:
        """Return the progress as `outlast_progress` takes it; `downloaded` and `size` concern unfinished files."""
        progress = Progress(
            completed=self._stored,
            failed=self._failed,
            total=self._total,
            downloaded=sum(downloaded for downloaded, _ in self._downloads.values()),
            size=sum(size for _, size in self._downloads.values()) if self._downloads else None,
        )
        return {"task_id": str(self._task_id), "lease": str(self._lease), "progress": progress.model_dump()}


class AttemptLog(AttemptHooks):
    """Records one attempt's steps and files, and passes files on to `task_progress` once it is set."""

    def __init__(self) -> None:
        self.task_progress: TaskProgress | None = None
        self._stages: defaultdict[str, float] = defaultdict(float)
        self._file_outcomes: Counter[str] = Counter()
        self._error_codes: set[str] = set()
        self._bytes_received: dict[str, int] = {}
        self._bytes_stored = 0

    def file(self, position: int) -> AbstractContextManager[None]:
        """Open the span of a file."""
        return tracing.span("file", attributes={"position": position})

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Open the span of a pipeline step, and measure the step."""
        started = time.perf_counter()
        try:
            with tracing.span(name):
                yield
        finally:
            self._stages[name] += time.perf_counter() - started

    def received(self, file: JobFile, downloaded: int, size: int) -> None:
        """Record the bytes downloaded of a file; see `TaskProgress.received`."""
        self._bytes_received[file.source_key] = downloaded
        if self.task_progress is not None:
            self.task_progress.received(file, downloaded, size)

    def file_done(self, file: JobFile, result: ProcessedFile | FailedFile) -> None:
        """Count a file by its outcome."""
        if self.task_progress is not None:
            self.task_progress.file_done(file, result)
        if isinstance(result, FailedFile):
            self._file_outcomes["skipped" if result.is_skipped else "failed"] += 1
            self._error_codes.add(result.code)
        elif result.deduplicated:
            self._file_outcomes["deduplicated"] += 1
        else:
            self._file_outcomes["stored"] += 1
            self._bytes_stored += result.file_size

    def failed(self, code: str) -> None:
        """Record an error of the whole job."""
        self._error_codes.add(code)

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of the log line. `stages` has the seconds of each step, summed over all files."""
        return {
            "stages": {name: round(seconds, 3) for name, seconds in self._stages.items()},
            **{f"files_{outcome}": self._file_outcomes[outcome] for outcome in ("stored", "deduplicated", "failed")},
            "bytes_in": sum(self._bytes_received.values()),
            "bytes_out": self._bytes_stored,
            "codes": sorted(self._error_codes),
        }


class ProgressWriter:
    """Writes the progress of a worker's running tasks to the database: at most one request a second for all."""

    def __init__(self, tasks: TaskQueries) -> None:
        self._tasks = tasks
        self._tracked: set[TaskProgress] = set()

    def add(self, task_progress: TaskProgress) -> None:
        """Write this progress from now on."""
        self._tracked.add(task_progress)

    def remove(self, task_progress: TaskProgress) -> None:
        """Stop writing this progress; `outlast_finish` records a task's final figures."""
        self._tracked.discard(task_progress)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            try:
                await self.write()
            except FileProcessingError as error:
                log.info("progress not written", code=error.code)
            except Exception:
                log.exception("writing progress crashed")

    async def write(self) -> None:
        """Write what has changed. Raises DatabaseUnavailableError."""
        changed = [task_progress for task_progress in self._tracked if task_progress.changed]
        for task_progress in changed:
            task_progress.changed = False
        if changed:
            await self._tasks.progress([task_progress.to_dict() for task_progress in changed])
