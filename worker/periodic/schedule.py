"""What is done at regular times, and how often: one of the workers does it, or calls for it, in each slot."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from handlers.database.reconcile_records import ReconcileRecords
from handlers.errors import FileProcessingError
from worker.broker.connection import Broker
from worker.broker.errors import BrokerUnavailableError
from worker.dead_letters.queue_lock import BusyError
from worker.periodic.maintenance import enqueue_maintenance
from worker.periodic.sweep_job import SweepJob
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
CHECK_SECONDS: Final = 300.0
"""How often a worker asks at least whether it is its turn: workers may come and go faster than long slots."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Something that is done once in every so many seconds, however many workers there are; 0: never."""

    name: str
    every: float
    once: Callable[[], Awaitable[None]]


def build_schedule(settings: Settings, rounds: SweepJob, broker: Broker) -> list[Slot]:
    """Return the schedule. The sweep is done by whose turn it is; the rest is put on its queue."""
    upkeep, again = settings.maintenance_every_seconds, settings.optimize_every_hours * 3600
    return [
        Slot("reconcile", settings.reconcile_every_seconds, rounds.once),
        Slot("remove_orphans", upkeep, partial(enqueue_maintenance, "remove_orphans", broker)),
        Slot("expire", upkeep, partial(enqueue_maintenance, "expire", broker)),
        Slot("optimize", again, partial(enqueue_maintenance, "optimize", broker)),
    ]


async def run_schedule(schedule: Sequence[Slot], reconcile_records: ReconcileRecords, worker: str) -> None:
    """Keep the schedule until cancelled."""
    async with asyncio.TaskGroup() as group:
        for slot in schedule:
            if slot.every > 0:
                group.create_task(_in_turn(slot, reconcile_records, worker), name=slot.name)


async def _in_turn(slot: Slot, reconcile_records: ReconcileRecords, worker: str) -> None:
    """Ask for each slot whether it is ours. Slots that passed while nobody asked are made up for once.

    What fails is tried again in the next slot.
    """
    while True:
        await asyncio.sleep(min(slot.every, CHECK_SECONDS))
        try:
            if await reconcile_records.claim_slot(slot.name, slot.every, worker):
                await slot.once()
        except (FileProcessingError, BrokerUnavailableError, BusyError) as error:
            log.warning("not done in its slot", slot=slot.name, error=str(error))
        except Exception:
            log.exception("crashed in its slot", slot=slot.name)
