"""What one attempt did, for its one wide line in the log and for its spans."""

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from handlers.observer import AttemptHooks
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import JobFile
from worker.consume.progress import TaskProgress
from worker.observability import tracing


class AttemptLog(AttemptHooks):
    """Follows one attempt's files from step to step; once there is a `task_progress`, it hears of each as well."""

    def __init__(self) -> None:
        self.task_progress: TaskProgress | None = None
        self._stages: defaultdict[str, float] = defaultdict(float)
        self._ended: Counter[str] = Counter()
        self._codes: set[str] = set()
        self._received: dict[str, int] = {}
        self._stored = 0

    def file(self, position: int) -> AbstractContextManager[None]:
        """Open the span of a file."""
        return tracing.span("file", attributes={"position": position})

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Open the span of a step, and keep its time."""
        started = time.perf_counter()
        try:
            with tracing.span(name):
                yield
        finally:
            self._stages[name] += time.perf_counter() - started

    def received(self, file: JobFile, downloaded: int, size: int) -> None:
        """Note how much of a file has arrived; see `TaskProgress.received`."""
        self._received[file.source_key] = downloaded
        if self.task_progress is not None:
            self.task_progress.received(file, downloaded, size)

    def ended(self, file: JobFile, result: ProcessedFile | FailedFile) -> None:
        """Note how a file ended."""
        if self.task_progress is not None:
            self.task_progress.ended(file, result)
        if isinstance(result, FailedFile):
            self._ended["failed"] += 1
            self._codes.add(result.code)
        elif result.deduplicated:
            self._ended["deduplicated"] += 1
        else:
            self._ended["stored"] += 1
            self._stored += result.file_size

    def failed(self, code: str) -> None:
        """Note that the job as a whole met an error."""
        self._codes.add(code)

    def log_fields(self) -> dict[str, Any]:
        """Return it for the log: seconds of each step, summed over files that ran side by side; sizes in bytes."""
        return {
            "stages": {name: round(seconds, 3) for name, seconds in self._stages.items()},
            **{f"files_{outcome}": self._ended[outcome] for outcome in ("stored", "deduplicated", "failed")},
            "bytes_in": sum(self._received.values()),
            "bytes_out": self._stored,
            "codes": sorted(self._codes),
        }
