"""Upkeep as messages: one of the workers calls for it at regular times, and whoever is free does it.

A chore that fails needs no retry: its message is acknowledged, and the next slot does what this one could not.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from pydantic import ValidationError

from handlers.database.task_queries import TaskQueries
from handlers.errors import FileProcessingError
from handlers.storage.orphans import OrphanRemover
from schemas.jobs import Queue
from schemas.maintenance import MAINTENANCE_PREFIX, MAINTENANCE_TYPE, Action, Maintenance
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.envelope import UndecodableError, build_message
from worker.broker.errors import PUBLISH_SECONDS
from worker.consume.attempt import StopReason
from worker.consume.delivery import Delivery, LostDeliveryError
from worker.observability.metrics import Metrics
from worker.periodic.optimize import Optimizer
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
MAX_WAITING: Final = 10
"""Messages on a chore's queue from which on no more are called for."""


async def enqueue_maintenance(action: Action, broker: Broker) -> None:
    """Put a chore on its queue, unless nobody seems to take any there. Raises BrokerUnavailableError."""
    queue = Queue.OPTIMIZATION if action == "optimize" else Queue.MAINTENANCE
    if await broker.count_waiting(topology.work_queue(queue)) >= MAX_WAITING:
        log.warning("chore not called for: so many messages wait on its queue", action=action, queue=queue)
        return
    chore = Maintenance(action=action, slot=datetime.now(UTC))
    message = build_message(
        chore.model_dump_json().encode(), f"{action} {chore.slot.isoformat()}", {}, MAINTENANCE_TYPE
    )
    await broker.publish(topology.WORK, queue, message, PUBLISH_SECONDS)


def is_maintenance(delivery: Delivery) -> bool:
    """Whether a delivery is a chore, also one of a kind this version does not know."""
    return (delivery.message.type or "").startswith(MAINTENANCE_PREFIX)


class MaintenanceRunner:
    """Knows how each chore is done; one takes at most about as long as an attempt at a job may."""

    def __init__(
        self, settings: Settings, orphans: OrphanRemover, optimizer: Optimizer, tasks: TaskQueries, metrics: Metrics
    ) -> None:
        self._orphans = orphans
        self._optimizer = optimizer
        self._tasks = tasks
        self._metrics = metrics
        self._time_limit = settings.attempt_seconds
        self._keep_seconds = round(settings.task_keep_days * 24 * 3600)
        self._ways: dict[Action, Callable[[], Awaitable[None]]] = {
            "remove_orphans": self._remove_orphans,
            "expire": self._expire,
            "optimize": self._optimize,
        }

    async def do(self, action: Action) -> None:
        """Do a chore; raise FileProcessingError when it cannot be done now."""
        await self._ways[action]()

    async def _remove_orphans(self) -> None:
        self._metrics.objects_removed.inc((await self._orphans.remove(self._time_limit)).objects)

    async def _expire(self) -> None:
        until = time.monotonic() + self._time_limit
        while await self._tasks.expire(self._keep_seconds) and time.monotonic() < until:
            pass

    async def _optimize(self) -> None:
        until = time.monotonic() + self._time_limit / 2
        done = await self._optimizer.run(stopped=lambda: time.monotonic() > until)
        log.info("optimized", smaller=done.smaller, merged=done.merged, kept=done.kept, saved=done.bytes_saved)


class MaintenanceJob:
    """Attends to one delivery of the maintenance queue, as an Attempt does to one of a work queue."""

    envelope: Final = None
    leased: Final = None

    def __init__(self, delivery: Delivery, runner: MaintenanceRunner) -> None:
        self.delivery = delivery
        self.started = time.monotonic()
        self._runner = runner
        self._action: Action | None = None
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def stop(self, reason: StopReason) -> None:  # noqa: ARG002 - a chore is given back, whatever the reason
        """Interrupt it: another worker does the rest."""
        if self._task is not None and not self._task.done():
            self._stopped = True
            self._task.cancel()

    def log_fields(self) -> dict[str, Any]:
        """Return what was to be done, for the log."""
        return {"action": self._action}

    async def run(self) -> str:
        """Do the chore; return how it ended, for the metric."""
        try:
            action = self._action = self._read()
        except UndecodableError as error:
            return await self._bury(error)
        self._task = asyncio.create_task(self._runner.do(action))
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._stopped:
                self._task.cancel()
                raise
            await self.delivery.nack()
            return "handed_back"
        except FileProcessingError as error:
            log.warning("maintenance failed", action=action, code=error.code, error=str(error))
            await self.delivery.ack()
            return "failed"
        await self.delivery.ack()
        return "completed"

    def _read(self) -> Action:
        message = self.delivery.message
        if message.type != MAINTENANCE_TYPE:
            raise UndecodableError(f"message type {message.type!r} is not {MAINTENANCE_TYPE!r}", "newer_version")
        try:
            return Maintenance.model_validate_json(message.body).action
        except ValidationError as error:
            fields = sorted({".".join(map(str, problem["loc"])) or "body" for problem in error.errors()})
            raise UndecodableError(f"the body is no chore; look at {', '.join(fields)}", "undecodable") from None

    async def _bury(self, error: UndecodableError) -> str:
        try:
            await self.delivery.dead_letter_undecodable(error)
        except LostDeliveryError:
            return "redelivered"
        return "undecodable"
