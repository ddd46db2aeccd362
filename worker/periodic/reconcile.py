"""The sweep: enqueues completed generations without media, and tasks without progress.

pg_net sends a webhook only once; the sweep finds the generations whose webhook was lost. Their jobs go to the bulk
queue, so that they do not delay new ones. A found task is recorded before it is enqueued: later sweeps skip it until it
has been idle for longer than the longest retry delay and the longest attempt together.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from handlers.database.reconcile_records import ReconcileRecords
from handlers.download.allowlist import Allowlist
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration
from schemas.jobs import Job, Queue
from schemas.periodic import ReconcileEntry
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.envelope import Envelope
from worker.broker.errors import PUBLISH_SECONDS
from worker.observability.metrics import Metrics
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
PAGE: Final = 200
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
        self._allowlist = Allowlist(settings.source_allowlist)
        self._idle_seconds = round(settings.retry_delays[-1] + settings.task_timeout_minutes * 60)

    async def find_missing(self, since: datetime | None) -> list[ReconcileEntry]:
        """Return everything that is missing, and change nothing."""
        return await self._reconcile_records.missing(since, 1_000_000, self._idle_seconds)

    async def sweep(
        self, since: datetime | None = None, older_than: float = 0.0, on_checked: Callable[[], None] = lambda: None
    ) -> SweepResult:
        """Enqueue what is missing and was created after `since` and more than `older_than` seconds ago.

        `on_checked` is called after each entry.
        """
        result, before = SweepResult(), datetime.now(UTC) - timedelta(seconds=older_than)
        seen: set[str] = set()
        while page := await self._page(since, before, seen):
            result.count(page)
            for entry in page:
                await self._enqueue(entry, result)
                on_checked()
            log.info("sweeping", checked=result.found.total(), enqueued=result.enqueued)
        age = datetime.now(UTC) - result.oldest if result.oldest else timedelta()
        self._metrics.record_sweep(result.found.total(), age.total_seconds())
        log.info("swept", **result.found, enqueued=result.enqueued, ended=result.ended)
        return result

    async def _page(self, since: datetime | None, before: datetime, seen: set[str]) -> list[ReconcileEntry]:
        """Return the next entries that are not in `seen`, and add them to it. Recorded tasks are not found again."""
        found = await self._reconcile_records.missing(since, PAGE + len(seen), self._idle_seconds)
        old_enough = [entry for entry in found if entry.created_at is None or entry.created_at <= before]
        new = [entry for entry in old_enough if _key(entry) not in seen]
        seen.update(map(_key, new))
        return new

    async def is_idle(self) -> bool:
        """Whether few jobs wait, so that missing generations are not simply among the waiting ones."""
        waiting = sum([await self._broker.count_waiting(topology.work_queue(key)) for key in (Queue.FILES, Queue.BULK)])
        if waiting > MAX_WAITING_JOBS:
            log.info("sweep skipped: too many jobs wait", waiting=waiting)
        return waiting <= MAX_WAITING_JOBS

    async def _enqueue(self, entry: ReconcileEntry, result: SweepResult) -> None:
        jobs = tuple(self._jobs(entry))
        if entry.task_id is not None and not jobs:
            failure = {"task_id": str(entry.task_id), "code": "message_lost", "error": LOST_ERROR}
            result.ended += len(await self._reconcile_records.mark_failed([failure]))
        elif jobs:
            to_publish = await self._reconcile_records.requeue(jobs)
            for job in jobs:
                if job.task_id in to_publish:
                    await self._broker.publish_job(Envelope(job), PUBLISH_SECONDS)
                    result.enqueued += 1

    def _jobs(self, entry: ReconcileEntry) -> Iterator[Job]:
        """Yield the jobs to enqueue: all jobs of a missed generation, or the one job of a task without progress."""
        event = CompletedGeneration(
            source="reconcile", **entry.model_dump(include={"generation_id", "request_id", "user_id", "output"})
        )
        planned: Iterable[Job] = self._plan(event, allow_empty=entry.task_id is None)
        if entry.task_id is not None:
            # The task ids of FAL's webhooks derive from the request id, because these webhooks name no generation.
            by_request = self._plan(event.model_copy(update={"generation_id": None})) if entry.request_id else ()
            candidates = (*planned, *by_request)
            changes = {"generation_id": entry.generation_id, "event_at": entry.created_at or datetime.now(UTC)}
            planned = [job.model_copy(update=changes) for job in candidates if job.task_id == entry.task_id]
        for job in planned:
            yield job.model_copy(update={"queue": Queue.BULK})

    def _plan(self, event: CompletedGeneration, *, allow_empty: bool = False) -> Sequence[Job]:
        """Plan jobs like the receiver. `allow_empty`: an output without files becomes a job without files.

        Such a job is completed when it is recorded; later sweeps then skip the generation.
        """
        if event.output is None:
            return ()
        return plan_jobs(event, self._settings, self._allowlist, allow_empty=allow_empty)


def _key(entry: ReconcileEntry) -> str:
    return f"{entry.generation_id} {entry.task_id}"
