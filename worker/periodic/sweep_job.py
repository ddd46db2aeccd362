"""What one of the workers does for all of them at regular times: mourn jobs that killed workers, sweep, forget."""

from typing import Final

import structlog

from handlers.database.reconcile_records import ReconcileRecords
from schemas.dead_letters import DeadLetterFilter
from worker.broker import topology
from worker.broker.connection import Broker
from worker.dead_letters.queue_lock import DeadLetters
from worker.observability.metrics import Metrics
from worker.periodic.reconcile import Reconciler
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
WORKER_KILLED: Final = "worker_killed"
MIN_AGE_SECONDS: Final = 60.0
"""How old a generation must be before a periodic sweep takes it for unheard of: its webhook may be on its way."""


class KilledTaskReaper:
    """Ends the tasks whose message killed its workers: the broker buried it, and told nobody else."""

    def __init__(
        self, settings: Settings, reconcile_records: ReconcileRecords, broker: Broker, metrics: Metrics
    ) -> None:
        self._dead = DeadLetters(settings)
        self._reconcile_records = reconcile_records
        self._broker = broker
        self._metrics = metrics
        self._seen = 0

    async def mark_killed_tasks(self) -> None:
        """Look at the dead letters, unless there are as many as last time.

        Raises:
            BusyError: somebody else is at them.
        """
        lying = await self._broker.count_waiting(topology.DEAD)
        if lying == self._seen:
            return
        killed = [letter.item for letter in await self._dead.find(DeadLetterFilter(code=WORKER_KILLED))]
        letters = [{"task_id": str(item.task_id), "code": item.code, "error": item.error} for item in killed]
        changed = await self._reconcile_records.mark_failed(
            [letter for letter in letters if letter["task_id"] != "None"]
        )
        self._metrics.dead_letters.labels(WORKER_KILLED).inc(len(changed))
        self._seen = lying


class SweepJob:
    """The sweep, and what goes with it."""

    def __init__(
        self, reconciler: Reconciler, reaper: KilledTaskReaper, reconcile_records: ReconcileRecords, settings: Settings
    ) -> None:
        self._reconciler = reconciler
        self._reaper = reaper
        self._reconcile_records = reconcile_records
        self._every = settings.reconcile_every_seconds

    async def once(self) -> None:
        """Do everything that is to be done in a slot."""
        await self._reaper.mark_killed_tasks()
        if await self._reconciler.is_idle():
            await self._reconciler.sweep(older_than=min(MIN_AGE_SECONDS, self._every))
        await self._reconcile_records.expire_archive()
