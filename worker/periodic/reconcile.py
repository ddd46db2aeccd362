"""The sweep: completed generations that nobody heard of, and tasks that stand still, become jobs again.

pg_net sends a webhook once and never again; what it lost comes back from here. What is found goes to the bulk queue, so
that it does not delay those who wait. Each find is put on record first: the next sweep leaves it alone until it has
idled for longer than any delay and the longest attempt together.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from handlers.database.reconcile_records import ReconcileRecords
from handlers.download.allowlist import Allowlist
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration
from schemas.jobs import Job, Queue
from schemas.reconcile import ReconcileEntry
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.envelope import Envelope
from worker.broker.errors import PUBLISH_SECONDS
from worker.observability.metrics import Metrics
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
PAGE: Final = 200
MAX_WAITING_JOBS: Final = 1000
"""Waiting jobs above which a periodic sweep does not look: what it would find is most likely among them."""
LOST_ERROR: Final = "its message is gone, and its files are not in a generation's output: submit it again"


@dataclass(slots=True)
class SweepResult:
    """What one sweep did: entries found by reason, jobs enqueued, tasks ended because nothing can revive them.

    `oldest` is when the oldest of what was found was created.
    """

    found: Counter[str] = field(default_factory=Counter)
    enqueued: int = 0
    ended: int = 0
    oldest: datetime | None = None

    def count(self, page: Sequence[ReconcileEntry]) -> None:
        """Add what was found."""
        self.found.update(entry.reason for entry in page)
        times = [self.oldest, *(entry.created_at for entry in page)]
        self.oldest = min((time for time in times if time is not None), default=None)


class Reconciler:
    """Sweeps. Every method raises DatabaseUnavailableError, or BrokerUnavailableError; what was done stays done."""

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
        """Return everything that is missing, and touch nothing."""
        return await self._reconcile_records.missing(since, 1_000_000, self._idle_seconds)

    async def sweep(
        self, since: datetime | None = None, older_than: float = 0.0, looked_at: Callable[[], None] = lambda: None
    ) -> SweepResult:
        """Take up again what is missing, created `since` and more than `older_than` seconds ago.

        `looked_at` is called after each entry.
        """
        swept, before = SweepResult(), datetime.now(UTC) - timedelta(seconds=older_than)
        seen: set[str] = set()
        while page := await self._page(since, before, seen):
            swept.count(page)
            for entry in page:
                await self._take_up(entry, swept)
                looked_at()
            log.info("sweeping", looked_at=swept.found.total(), enqueued=swept.enqueued)
        age = datetime.now(UTC) - swept.oldest if swept.oldest else timedelta()
        self._metrics.swept(swept.found.total(), age.total_seconds())
        log.info("swept", **swept.found, enqueued=swept.enqueued, ended=swept.ended)
        return swept

    async def _page(self, since: datetime | None, before: datetime, seen: set[str]) -> list[ReconcileEntry]:
        """Return the next entries that this sweep has not met; what it put on record is left out."""
        found = await self._reconcile_records.missing(since, PAGE + len(seen), self._idle_seconds)
        ripe = [entry for entry in found if entry.created_at is None or entry.created_at <= before]
        new = [entry for entry in ripe if _name(entry) not in seen]
        seen.update(map(_name, new))
        return new

    async def is_idle(self) -> bool:
        """Whether few jobs wait, so that what is missing is not simply among them."""
        waiting = sum([await self._broker.count_waiting(topology.work_queue(key)) for key in (Queue.FILES, Queue.BULK)])
        if waiting > MAX_WAITING_JOBS:
            log.info("no sweep while so many jobs wait", waiting=waiting)
        return waiting <= MAX_WAITING_JOBS

    async def _take_up(self, entry: ReconcileEntry, swept: SweepResult) -> None:
        jobs = tuple(self._jobs(entry))
        if entry.task_id is not None and not jobs:
            letter = {"task_id": str(entry.task_id), "code": "message_lost", "error": LOST_ERROR}
            swept.ended += len(await self._reconcile_records.mark_failed([letter]))
        elif jobs:
            wanted = await self._reconcile_records.requeue(jobs)
            for job in jobs:
                if job.task_id in wanted:
                    await self._broker.publish_job(Envelope(job), PUBLISH_SECONDS)
                    swept.enqueued += 1

    def _jobs(self, entry: ReconcileEntry) -> Iterator[Job]:
        """Yield the jobs an entry calls for: all of a generation's, or the one of a task that stands still."""
        event = CompletedGeneration(
            source="reconcile", **entry.model_dump(include={"generation_id", "request_id", "user_id", "output"})
        )
        planned: Iterable[Job] = self._plan(event, allow_empty=entry.task_id is None)
        if entry.task_id is not None:
            # FAL's own webhook named no generation, so its tasks are called after the request.
            by_request = self._plan(event.model_copy(update={"generation_id": None})) if entry.request_id else ()
            both = (*planned, *by_request)
            changes = {"generation_id": entry.generation_id, "event_at": entry.created_at or datetime.now(UTC)}
            planned = [job.model_copy(update=changes) for job in both if job.task_id == entry.task_id]
        for job in planned:
            yield job.model_copy(update={"queue": Queue.BULK})

    def _plan(self, event: CompletedGeneration, *, allow_empty: bool = False) -> Sequence[Job]:
        """Plan as the receiver does; an output without files becomes an empty job, done once it is on record."""
        if event.output is None:
            return ()
        return plan_jobs(event, self._settings, self._allowlist, allow_empty=allow_empty)


def _name(entry: ReconcileEntry) -> str:
    return f"{entry.generation_id} {entry.task_id}"


def as_json(entry: ReconcileEntry) -> dict[str, Any]:
    """Return an entry without its output, which may be large and hold signed URLs."""
    return entry.model_dump(mode="json", exclude={"output"})
