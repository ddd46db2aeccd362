"""How far running tasks are: counted file by file and byte by byte, written down once a second for all of them."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import structlog

from handlers.database.task_queries import TaskQueries
from handlers.errors import FileProcessingError
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import JobFile
from schemas.tasks import Progress

log = structlog.stdlib.get_logger(__name__)
WRITE_SECONDS: Final = 1.0


class TaskProgress:
    """Counts one attempt. `changed` until it was written down."""

    def __init__(self, task_id: UUID, lease: UUID, total: int, stored: int) -> None:
        self.changed = True
        self._task_id = task_id
        self._lease = lease
        self._total = total
        self._stored = stored
        self._failed = 0
        self._arriving: dict[str, tuple[int, int]] = {}

    def received(self, file: JobFile, downloaded: int, size: int) -> None:
        """Note how much of a file in work has arrived, in bytes; `size` is `downloaded` while it is unknown."""
        self._arriving[file.source_key] = (downloaded, size)
        self.changed = True

    def ended(self, file: JobFile, result: ProcessedFile | FailedFile) -> None:
        """Note how a file ended."""
        self._arriving.pop(file.source_key, None)
        if isinstance(result, ProcessedFile):
            self._stored += 1
        else:
            self._failed += 1
        self.changed = True

    def to_dict(self) -> dict[str, Any]:
        """Return what is written down of it."""
        arriving: Iterable[tuple[int, int]] = self._arriving.values()
        progress = Progress(
            completed=self._stored,
            failed=self._failed,
            total=self._total,
            downloaded=sum(downloaded for downloaded, _ in arriving),
            size=sum(size for _, size in arriving) if self._arriving else None,
        )
        return {"task_id": str(self._task_id), "lease": str(self._lease), "progress": progress.model_dump()}


class ProgressWriter:
    """Writes the tallies of a worker down, at most once a second whatever the load."""

    def __init__(self, records: TaskQueries) -> None:
        self._records = records
        self._tracked: set[TaskProgress] = set()

    def add(self, task_progress: TaskProgress) -> None:
        """Begin to write a tally down."""
        self._tracked.add(task_progress)

    def remove(self, task_progress: TaskProgress) -> None:
        """Forget a tally; the end of a task is recorded by its finish."""
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
                log.exception("progress crashed")

    async def write(self) -> None:
        """Write down what is news. Raises DatabaseUnavailableError."""
        changed = [task_progress for task_progress in self._tracked if task_progress.changed]
        for task_progress in changed:
            task_progress.changed = False
        if changed:
            await self._records.progress([task_progress.to_dict() for task_progress in changed])
