"""The sweep: enqueues completed generations without media, and tasks without progress.

pg_net sends a webhook only once; the sweep finds the generations whose webhook was lost. Their jobs go to the bulk
queue, so that they do not delay new ones. A found task is recorded before it is enqueued: later sweeps skip it until it
has been idle for longer than the longest retry delay and the longest attempt together.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from handlers.database.reconcile_records import MissingQuery, ReconcileRecords
from handlers.errors import FileProcessingError, RowRejectedError
from schemas.jobs import Queue
from schemas.periodic import ReconcileEntry
from worker.broker import topology
from worker.broker.batch_publisher import publish_jobs
from worker.broker.connection import Broker
from worker.broker.errors import PUBLISH_SECONDS
from worker.observability.metrics import Metrics
from worker.periodic.sweep_plan import SweepPlanner
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
MAX_ROW_RETRIES: Final = 50
"""How many rows that refused their media one sweep tries to write again."""
MAX_WAITING_JOBS: Final = 1000
"""Number of waiting jobs above which a periodic sweep is skipped: what it would find is most likely among them."""
LOST_ERROR: Final = "the task's message is lost, and no generation's output contains its files; submit them again"


@dataclass(slots=True)
class SweepResult:
    """Entries found, by reason; jobs enqueued; tasks set to failed because their files are not known.

    `oldest` is the creation time of the oldest entry.
    """

    found: Counter[str] = field(default_factory=Counter)
    enqueued: int = 0
    ended: int = 0
    oldest: datetime | None = None

    def count(self, page: Sequence[ReconcileEntry]) -> None:
        """Count a page of entries."""
        self.found.update(entry.reason for entry in page)
        times = [self.oldest, *(entry.created_at for entry in page)]
        self.oldest = min((time for time in times if time is not None), default=None)


class Reconciler:
    """Finds and enqueues what is missing.

    Every method raises DatabaseUnavailableError or BrokerUnavailableError; work completed before that is kept.
    """

    def __init__(
        self, settings: Settings, reconcile_records: ReconcileRecords, broker: Broker, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._reconcile_records = reconcile_records
        self._broker = broker
        self._metrics = metrics
        self._idle_seconds = round(settings.retry_delays[-1] + settings.task_timeout_minutes * 60)

    async def pages(
        self, since: datetime | None, until: datetime | None = None, *, with_outputs: bool = True
    ) -> AsyncIterator[list[ReconcileEntry]]:
        """Yield everything that is missing, in pages, and change nothing."""
        query = MissingQuery(since, until, self._idle_seconds, with_outputs)
        generations: set[tuple[str, str | None]] = set()
        place: dict[str, Any] | None = None
        while True:
            page = await self._reconcile_records.missing(query, place)
            generations.update((e.binding, e.generation_id) for e in page.entries if e.reason != "idle")
            # An idle task of a generation that is missing itself is among the jobs of that generation.
            yield [e for e in page.entries if e.reason != "idle" or (e.binding, e.generation_id) not in generations]
            place = page.next
            if place is None:
                return

    async def count_missing(
        self, since: datetime | None, on_checked: Callable[[int], None] = lambda _: None
    ) -> Counter[str]:
        """Return how much is missing, by reason, and change nothing. `on_checked` gets the entries per page."""
        found: Counter[str] = Counter()
        async for page in self.pages(since, with_outputs=False):
            found.update(entry.reason for entry in page)
            on_checked(len(page))
        return found

    async def sweep(
        self, since: datetime | None = None, older_than: float = 0.0, on_checked: Callable[[], None] = lambda: None
    ) -> SweepResult:
        """Enqueue what is missing and was created after `since` and more than `older_than` seconds ago.

        `on_checked` is called after each entry.
        """
        result, planner = SweepResult(), SweepPlanner(self._settings)
        async for page in self.pages(since, datetime.now(UTC) - timedelta(seconds=older_than)):
            result.count(page)
            for entry in page:
                await self._enqueue(entry, planner, result)
                on_checked()
            if page:
                log.info("sweeping", checked=result.found.total(), enqueued=result.enqueued)
        await self._retry_rejected_rows()
        age = datetime.now(UTC) - result.oldest if result.oldest else timedelta()
        self._metrics.record_sweep(result.found.total(), age.total_seconds())
        log.info("swept", **result.found, enqueued=result.enqueued, ended=result.ended)
        return result

    async def _retry_rejected_rows(self) -> None:
        """Write `media` to rows that refused it. An error ends the retries of this sweep, and nothing else."""
        try:
            for _ in range(MAX_ROW_RETRIES):
                if not await self._reconcile_records.retry_rejected_row():
                    return
        except FileProcessingError as error:
            log.warning("rows that refused their media are tried again later", error=str(error))

    async def is_idle(self) -> bool:
        """Whether few jobs wait, so that missing generations are not simply among the waiting ones."""
        waiting = sum([await self._broker.count_waiting(topology.work_queue(key)) for key in (Queue.FILES, Queue.BULK)])
        if waiting > MAX_WAITING_JOBS:
            log.info("sweep skipped: too many jobs wait", waiting=waiting)
        return waiting <= MAX_WAITING_JOBS

    async def _enqueue(self, entry: ReconcileEntry, planner: SweepPlanner, result: SweepResult) -> None:
        """Record and publish the jobs of one entry. If the database refuses them, that is only logged."""
        jobs = await asyncio.to_thread(planner.jobs, entry)
        try:
            if entry.task_id is not None and not jobs:
                failure = {"task_id": str(entry.task_id), "code": "message_lost", "error": LOST_ERROR}
                result.ended += len(await self._reconcile_records.mark_failed([failure]))
            elif jobs:
                task_ids = await self._reconcile_records.requeue(jobs)
                to_publish = [job for job in jobs if job.task_id in task_ids]
                await publish_jobs(self._broker, to_publish, PUBLISH_SECONDS)
                result.enqueued += len(to_publish)
        except RowRejectedError as error:
            ids = entry.model_dump(include={"binding", "generation_id"})
            log.warning("generation not enqueued", **ids, error=str(error))
