"""Maintenance as messages: the schedule puts an action on a queue, and a worker that has room performs it.

A failed action is not retried: its message is acknowledged, and the next scheduled one continues the work.
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
from schemas.periodic import MAINTENANCE_PREFIX, MAINTENANCE_TYPE, Action, Maintenance
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
"""Nothing is added to a maintenance queue with this many waiting messages or more."""


async def enqueue_maintenance(action: Action, broker: Broker) -> None:
    """Publish an action to its queue, unless many messages wait there, because no worker consumes that queue.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    queue = Queue.OPTIMIZATION if action == "optimize" else Queue.MAINTENANCE
    if await broker.count_waiting(topology.work_queue(queue)) >= MAX_WAITING:
        log.warning("action not enqueued: too many messages wait on its queue", action=action, queue=queue)
        return
    maintenance = Maintenance(action=action, slot=datetime.now(UTC))
    message_id = f"{action} {maintenance.slot.isoformat()}"
    message = build_message(maintenance.model_dump_json().encode(), message_id, {}, MAINTENANCE_TYPE)
    await broker.publish(topology.WORK, queue, message, PUBLISH_SECONDS)


def is_maintenance(delivery: Delivery) -> bool:
    """Whether a delivery is maintenance, including message types of later versions."""
    return (delivery.message.type or "").startswith(MAINTENANCE_PREFIX)


class MaintenanceRunner:
    """Performs the maintenance actions, each within about the time limit of an attempt."""

    def __init__(
        self, settings: Settings, orphans: OrphanRemover, optimizer: Optimizer, tasks: TaskQueries, metrics: Metrics
    ) -> None:
        self._orphans = orphans
        self._optimizer = optimizer
        self._tasks = tasks
        self._metrics = metrics
        self._time_limit = settings.attempt_seconds
        self._keep_seconds = round(settings.task_keep_days * 24 * 3600)
        self._actions: dict[Action, Callable[[], Awaitable[None]]] = {
            "remove_orphans": self._remove_orphans,
            "expire": self._expire,
            "optimize": self._optimize,
        }

    async def run(self, action: Action) -> None:
        """Perform an action. Raises FileProcessingError if it cannot be performed now."""
        await self._actions[action]()

    async def _remove_orphans(self) -> None:
        self._metrics.objects_removed.inc((await self._orphans.remove(self._time_limit)).objects)

    async def _expire(self) -> None:
        deadline = time.monotonic() + self._time_limit
        while await self._tasks.expire(self._keep_seconds) and time.monotonic() < deadline:
            pass

    async def _optimize(self) -> None:
        deadline = time.monotonic() + self._time_limit / 2
        result = await self._optimizer.run(is_stopped=lambda: time.monotonic() > deadline)
        log.info("optimized", smaller=result.smaller, merged=result.merged, kept=result.kept, saved=result.bytes_saved)


class MaintenanceJob:
    """Processes one maintenance message, as an Attempt processes one job."""

    envelope: Final = None
    leased: Final = None

    def __init__(self, delivery: Delivery, runner: MaintenanceRunner) -> None:
        self.delivery = delivery
        self.started = time.monotonic()
        self._runner = runner
        self._action: Action | None = None
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def stop(self, reason: StopReason) -> None:  # noqa: ARG002 - the message is returned for every reason
        """Interrupt the action, and return its message for another worker."""
        if self._task is not None and not self._task.done():
            self._stopped = True
            self._task.cancel()

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of the log line."""
        return {"action": self._action}

    async def run(self) -> str:
        """Perform the action and settle the message. Return the outcome."""
        try:
            action = self._action = self._read()
        except UndecodableError as error:
            return await self._dead_letter(error)
        self._task = asyncio.create_task(self._runner.run(action))
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._stopped:
                self._task.cancel()
                raise
            await self.delivery.nack()
            return "requeued"
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
            message_text = f"the body is not a maintenance action; invalid: {', '.join(fields)}"
            raise UndecodableError(message_text, "undecodable") from None

    async def _dead_letter(self, error: UndecodableError) -> str:
        try:
            await self.delivery.dead_letter_undecodable(error)
        except LostDeliveryError:
            return "redelivered"
        return "undecodable"
