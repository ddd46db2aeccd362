"""What all attempts of a worker share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from handlers.database.reconcile_records import ReconcileRecords
from handlers.database.task_records import TaskRecords
from handlers.download.immutable import ImmutableSources
from handlers.pipeline.state import PipelineDeps
from schemas.jobs import Job
from worker.consume.circuit import Circuit
from worker.consume.progress import ProgressWriter
from worker.consume.retry_policy import RetryPolicy
from worker.observability.metrics import Metrics

MAX_RECENT: Final = 10_000
MAX_WAIT_SECONDS: Final = 30.0
"""How long a job waits for another one at most. Meanwhile it counts as a job in process, and its time limit runs."""


class Recent:
    """Ids of tasks, or users with source keys, that a worker has seen lately: at most MAX_RECENT."""

    def __init__(self) -> None:
        self._ids: dict[UUID | str, None] = {}

    def add(self, name: UUID | str) -> bool:
        """Add a name; return whether it is new."""
        is_new = name not in self._ids
        self._ids[name] = None
        if len(self._ids) > MAX_RECENT:
            del self._ids[next(iter(self._ids))]
        return is_new


class FilesUnderWay:
    """Files of users that jobs are storing. Another job for such a file waits until the first one has ended.

    Then the user has the file already. If the first one failed, all that waited go on at once. A job that has waited
    for `max_wait` seconds goes on as well.
    """

    def __init__(self, max_wait: float = MAX_WAIT_SECONDS) -> None:
        self._max_wait = max_wait
        self._ended: dict[str, asyncio.Event] = {}

    @contextlib.asynccontextmanager
    async def storing(self, name: str | None) -> AsyncIterator[None]:
        """Wait for the job that stores the file of this name, or be that job. None: nothing to wait for."""
        if name is None:
            yield
        elif (other := self._ended.get(name)) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._max_wait):
                    await other.wait()
            yield
        else:
            ended = self._ended[name] = asyncio.Event()
            try:
                yield
            finally:
                del self._ended[name]
                ended.set()


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The objects and limits that all attempts of a worker share.

    `send_result` sends a finished task's result to the Celery producer that waits for it, and `request_result` requests
    the result that FAL's webhook did not contain. `time_limit` and `soft_limit` are seconds: the end of an attempt, and
    the time after which it starts no new file.
    """

    records: TaskRecords
    reconcile_records: ReconcileRecords
    deps: PipelineDeps
    policy: RetryPolicy
    metrics: Metrics
    circuit: Circuit
    immutable: ImmutableSources
    worker: str
    progress_writer: ProgressWriter
    send_result: Callable[[Job], Awaitable[None]]
    request_result: Callable[[Job], Awaitable[tuple[Job, ...]]]
    max_concurrent: int
    time_limit: float
    soft_limit: float
    recent_tasks: Recent = field(default_factory=Recent)
    recent_sources: Recent = field(default_factory=Recent)
    under_way: FilesUnderWay = field(default_factory=FilesUnderWay)
