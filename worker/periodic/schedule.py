"""The schedule: in each slot of time, one of the workers runs the action or puts it on a queue."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from handlers.database.reconcile_records import ReconcileRecords
from handlers.errors import FileProcessingError
from schemas.dead_letters import DeadLetterFilter
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.errors import BrokerUnavailableError
from worker.dead_letters.queue_lock import BusyError, DeadLetterQueue
from worker.notices.events import DIGEST_SECONDS, NOTICE_SECONDS, Notices
from worker.observability.metrics import Metrics
from worker.periodic.maintenance import enqueue_maintenance
from worker.periodic.reconcile import Reconciler
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
CHECK_SECONDS: Final = 300.0
"""A worker checks at least this often whether a slot is due: workers may start and end faster than a long interval."""
WORKER_KILLED: Final = "worker_killed"
MIN_AGE_SECONDS: Final = 60.0
"""A periodic sweep skips younger generations: their webhooks may still arrive."""


@dataclass(frozen=True, slots=True)
class Slot:
    """An action that all workers together do once in `interval` seconds; 0: never."""

    name: str
    interval: float
    action: Callable[[], Awaitable[None]]


class KilledTaskReaper:
    """Marks tasks as failed whose message exceeded the delivery limit: RabbitMQ does not update the database."""

    def __init__(
        self, settings: Settings, reconcile_records: ReconcileRecords, broker: Broker, metrics: Metrics
    ) -> None:
        self._dead_letters = DeadLetterQueue(settings)
        self._reconcile_records = reconcile_records
        self._broker = broker
        self._metrics = metrics
        self._last_count = 0

    async def mark_killed_tasks(self) -> None:
        """Search the dead letters and mark the tasks of killed workers, unless their number is the same as last time.

        Raises:
            BusyError: another process reads the dead letters.
        """
        count = await self._broker.count_waiting(topology.DEAD)
        if count == self._last_count:
            return
        found = await self._dead_letters.find(DeadLetterFilter(code=WORKER_KILLED))
        changed = await self._reconcile_records.mark_failed(
            [
                {"task_id": str(message.item.task_id), "code": message.item.code, "error": message.item.error}
                for message in found
                if message.item.task_id is not None
            ]
        )
        self._metrics.dead_letters.labels(WORKER_KILLED).inc(len(changed))
        self._last_count = count


class SweepJob:
    """The periodic sweep: killed tasks, missed generations, expired entries of the dead-letter archive."""

    def __init__(
        self, reconciler: Reconciler, reaper: KilledTaskReaper, reconcile_records: ReconcileRecords, settings: Settings
    ) -> None:
        self._reconciler = reconciler
        self._reaper = reaper
        self._reconcile_records = reconcile_records
        self._interval = settings.reconcile_every_seconds

    async def run(self) -> None:
        """Do everything that is due in one slot."""
        await self._reaper.mark_killed_tasks()
        if await self._reconciler.is_idle():
            await self._reconciler.sweep(older_than=min(MIN_AGE_SECONDS, self._interval))
        await self._reconcile_records.expire_archive()


def build_schedule(settings: Settings, sweep_job: SweepJob, broker: Broker) -> list[Slot]:
    """Return the schedule. The sweep runs in the worker that takes the slot; other actions go to a queue."""
    maintenance, optimize = settings.maintenance_every_seconds, settings.optimize_every_hours * 3600
    return [
        Slot("reconcile", settings.reconcile_every_seconds, sweep_job.run),
        Slot("remove_orphans", maintenance, partial(enqueue_maintenance, "remove_orphans", broker)),
        Slot("expire", maintenance, partial(enqueue_maintenance, "expire", broker)),
        Slot("optimize", optimize, partial(enqueue_maintenance, "optimize", broker)),
    ]


def notice_slots(notices: Notices) -> list[Slot]:
    """Return the slots in which one worker publishes the notices for NOTIFY_URLS."""
    return [
        Slot("notices", NOTICE_SECONDS, notices.publish_ended),
        Slot("digest", DIGEST_SECONDS, notices.publish_dead_letters),
    ]


async def run_schedule(schedule: Sequence[Slot], reconcile_records: ReconcileRecords, worker: str) -> None:
    """Run all slots until cancelled."""
    async with asyncio.TaskGroup() as group:
        for slot in schedule:
            if slot.interval > 0:
                group.create_task(_run_slot(slot, reconcile_records, worker), name=slot.name)


async def _run_slot(slot: Slot, reconcile_records: ReconcileRecords, worker: str) -> None:
    """Run the action whenever the database gives this worker the slot.

    Slots that passed while no worker ran are made up for by one run. A failed action is repeated in the next slot.
    """
    while True:
        await asyncio.sleep(min(slot.interval, CHECK_SECONDS))
        try:
            if await reconcile_records.claim_slot(slot.name, slot.interval, worker):
                await slot.action()
        except (FileProcessingError, BrokerUnavailableError, BusyError) as error:
            log.warning("scheduled action failed", slot=slot.name, error=str(error))
        except Exception:
            log.exception("scheduled action crashed", slot=slot.name)
