"""Processes one message that is sent to an HTTP address, as an Attempt processes one job.

Such messages are FAL's webhooks for the application (`message.py`) and notices (`worker/notices/message.py`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, Self, TypeVar
from uuid import NAMESPACE_OID, uuid5

import structlog
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from handlers.errors import FileProcessingError
from schemas.jobs import Queue
from worker.broker import topology
from worker.broker.envelope import UndecodableError
from worker.consume.attempt import StopReason
from worker.consume.delivery import Delivery, LostDeliveryError
from worker.consume.retry_policy import Retry, RetryPolicy, decide, stable_random
from worker.observability.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)


class Outgoing(Protocol):
    """A webhook or notice to send to an HTTP address. `id` is the same for each attempt; `attempt` counts from 1."""

    @property
    def id(self) -> str:
        """The id that the recipient sees."""

    @property
    def attempt(self) -> int:
        """The number of this attempt."""

    def next_attempt(self) -> Self:
        """Return what to send in the next attempt."""

    def message(self, code: str | None = None, error: str | None = None) -> Message:
        """Return the AMQP message; `code` and `error` describe the failure of the previous attempt."""

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of the log line."""


Sent = TypeVar("Sent", bound=Outgoing)


@dataclass(frozen=True, slots=True)
class MessageKind(Generic[Sent]):
    """How messages of one kind are read and sent. `read` raises UndecodableError, `send` FileProcessingError."""

    prefix: str
    read: Callable[[AbstractIncomingMessage], Sent]
    send: Callable[[Sent], Awaitable[None]]

    def takes(self, delivery: Delivery) -> bool:
        """Whether a delivery is of this kind, including message types of later versions."""
        return (delivery.message.type or "").startswith(self.prefix)


class SendJob(Generic[Sent]):
    """Sends one message; retries it with RETRY_DELAYS. It becomes a dead letter after MAX_ATTEMPTS or a final error."""

    envelope: Final = None
    leased: Final = None

    def __init__(self, delivery: Delivery, kind: MessageKind[Sent], policy: RetryPolicy, metrics: Metrics) -> None:
        self.delivery = delivery
        self.started = time.monotonic()
        self._kind = kind
        self._policy = policy
        self._metrics = metrics
        self._fields: dict[str, Any] = {}
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def stop(self, reason: StopReason) -> None:  # noqa: ARG002 - the message is returned for every reason
        """Interrupt the request, and return its message for another worker."""
        if self._task is not None and not self._task.done():
            self._stopped = True
            self._task.cancel()

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of the log line."""
        return self._fields

    async def run(self) -> str:
        """Send the webhook or notice, and settle its message. Return the outcome."""
        try:
            return await self._run()
        except LostDeliveryError:
            return "redelivered"

    async def _run(self) -> str:
        try:
            outgoing = self._kind.read(self.delivery.message)
        except UndecodableError as error:
            await self.delivery.dead_letter_undecodable(error)
            return "undecodable"
        self._fields = outgoing.log_fields()
        self._task = asyncio.create_task(self._send(outgoing))
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._stopped:
                self._task.cancel()
                raise
            await self.delivery.nack()
            return "requeued"
        except FileProcessingError as error:
            return await self._failed(outgoing, error)
        await self.delivery.ack()
        return "completed"

    async def _send(self, outgoing: Sent) -> None:
        await self._kind.send(outgoing)

    async def _failed(self, outgoing: Sent, error: FileProcessingError) -> str:
        self._metrics.error(error.code)
        chance = stable_random(uuid5(NAMESPACE_OID, outgoing.id), outgoing.attempt)
        decision = decide(error, outgoing.attempt, self._policy, chance)
        log.warning("not sent", error=str(error), decision=type(decision).__name__, **self._fields)
        if isinstance(decision, Retry):
            message = outgoing.next_attempt().message(error.code, str(error))
            await self.delivery.replace(topology.retry_name(decision.delay), Queue.WEBHOOKS, message)
            self._metrics.retries.labels(error.code).inc()
            return "retried"
        await self.delivery.replace(topology.DEAD, Queue.WEBHOOKS, outgoing.message(error.code, str(error)))
        self._metrics.dead_letters.labels(error.code).inc()
        return "failed"
