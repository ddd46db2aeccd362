"""Consumes one work queue and processes each delivery; can pause, resume, and stop without losing a message."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, AbstractRobustChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from schemas.jobs import Queue
from worker.broker import topology
from worker.broker.connection import RECONNECT_SECONDS, Broker
from worker.broker.envelope import Envelope
from worker.broker.errors import BROKER_ERRORS, translate_broker_errors
from worker.consume.attempt import Attempt, StopReason
from worker.consume.context import WorkerContext
from worker.consume.delivery import Delivery
from worker.consume.settlement import Settlement

log = structlog.stdlib.get_logger(__name__)
CANCEL_SECONDS = 5.0
CONSUME_SECONDS: Final = 20.0
"""Time limit for RabbitMQ's answer to a request to consume. aio-pika has none while it restores a channel."""
SHUTDOWN_REQUEUE_SECONDS = 5.0
MIN_SHUTDOWN_REQUEUE_SECONDS = 2.0
LOG_LEVEL_BY_OUTCOME: Final = {
    **dict.fromkeys(("failed", "undecodable", "crashed"), logging.ERROR),
    **dict.fromkeys(("partial", "retried", "retried_uncounted", "lost", "redelivered"), logging.WARNING),
}
"""Level of the line "attempt ended", by outcome; INFO for all others."""


class DeliveryHandler(Protocol):
    """Processes one delivery: an Attempt, a MaintenanceJob or a SendJob."""

    @property
    def delivery(self) -> Delivery:
        """The delivery."""

    @property
    def started(self) -> float:
        """Start time, in seconds of the monotonic clock."""

    @property
    def envelope(self) -> Envelope | None:
        """The decoded job; None before it is decoded, and for messages that are no jobs."""

    @property
    def leased(self) -> Settlement | None:
        """The settlement that has the task's lease, or None."""

    def log_fields(self) -> dict[str, Any]:
        """Return fields of the log line."""

    def stop(self, reason: StopReason) -> None:
        """End the processing early."""

    async def run(self) -> str:
        """Process the delivery and settle it; return the outcome."""


class Consumer:
    """Processes at most `concurrency` deliveries at once. The prefetch count is the same, so that none waits here.

    `create_handler` returns what processes a delivery; by default an Attempt.
    """

    def __init__(
        self,
        broker: Broker,
        context: WorkerContext,
        concurrency: int,
        queue: Queue = Queue.FILES,
        create_handler: Callable[[Delivery], DeliveryHandler] | None = None,
    ) -> None:
        self.concurrency = concurrency
        self.key = queue
        self._broker = broker
        self._context = context
        self._create_handler = create_handler or (lambda delivery: Attempt(delivery, context))
        self._attempts: dict[asyncio.Task[None], DeliveryHandler] = {}
        self._channel: AbstractRobustChannel | None = None
        self._queue: AbstractQueue | None = None
        self._tag: str | None = None
        self._wanted = False

    @property
    def attempts(self) -> list[DeliveryHandler]:
        """The deliveries in process."""
        return list(self._attempts.values())

    async def start(self) -> None:
        """Start or resume consuming; repeat until the broker accepts it, or until `pause`."""
        self._wanted = True
        await self._consume()
        log.info("consuming", queue=topology.work_queue(self.key), concurrency=self.concurrency)

    async def pause(self) -> None:
        """Stop consuming. Deliveries in process continue; `start` resumes."""
        self._wanted = False
        await self._cancel()

    async def renew(self) -> None:
        """Consume again, unless paused. Deliveries in process continue."""
        await self._cancel()
        await self._consume()

    async def _consume(self) -> None:
        while self._wanted and self._tag is None:
            try:
                with translate_broker_errors():
                    self._queue = self._queue or await self._open()
                    async with asyncio.timeout(CONSUME_SECONDS):
                        self._tag = await self._queue.consume(self._deliver)
            except ChannelNotFoundEntity:
                log.warning("the queue is missing; declaring it again", queue=topology.work_queue(self.key))
                await self._close_channel()
                if not await self._broker.repair_topology():
                    await asyncio.sleep(RECONNECT_SECONDS)
            except TimeoutError:
                log.warning("no answer to a request to consume; opening another channel")
                await self._close_channel()
            except BROKER_ERRORS as error:
                log.warning("connection lost before consuming", reason=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)
        if not self._wanted:  # paused meanwhile
            await self._cancel()

    async def _cancel(self) -> None:
        if self._queue is not None and self._tag is not None:
            tag, self._tag = self._tag, None
            with contextlib.suppress(Exception), translate_broker_errors():
                await asyncio.wait_for(self._queue.cancel(tag), CANCEL_SECONDS)

    async def drain(self, grace: float) -> None:
        """Wait for deliveries in process, requeue those that are left, close the channel.

        The last fifth of `grace` seconds, at most SHUTDOWN_REQUEUE_SECONDS, is for requeueing. It takes at least
        MIN_SHUTDOWN_REQUEUE_SECONDS, if needed beyond `grace`. RabbitMQ requeues what is left when the channel closes.
        """
        requeue_seconds = min(SHUTDOWN_REQUEUE_SECONDS, grace / 5)
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=grace - requeue_seconds)
        for attempt in self.attempts:
            attempt.stop("shutdown")
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=max(requeue_seconds, MIN_SHUTDOWN_REQUEUE_SECONDS))
        await self._close_channel()

    async def _close_channel(self) -> None:
        channel, self._channel, self._queue = self._channel, None, None
        if channel is not None:
            with contextlib.suppress(Exception), translate_broker_errors():
                await asyncio.wait_for(channel.close(), CANCEL_SECONDS)

    async def _open(self) -> AbstractQueue:
        self._channel = self._channel or await self._broker.channel()
        await self._channel.set_qos(prefetch_count=self.concurrency)
        return await self._channel.get_queue(topology.work_queue(self.key))

    async def _deliver(self, message: AbstractIncomingMessage) -> None:
        note_undecodable = self._context.records.note_undecodable
        attempt = self._create_handler(Delivery(message, self._broker, self._context.metrics, note_undecodable))
        task = asyncio.create_task(self._run(attempt))
        self._attempts[task] = attempt
        task.add_done_callback(self._attempts.pop)

    async def _run(self, attempt: DeliveryHandler) -> None:
        """Run one attempt; write its metrics and one log line."""
        metrics = self._context.metrics
        structlog.contextvars.clear_contextvars()
        with metrics.jobs_in_progress.track_inprogress():
            outcome = "crashed"
            try:
                outcome = await attempt.run()
            except Exception:
                log.exception("attempt crashed")
                await attempt.delivery.reject()
            finally:
                seconds = time.monotonic() - attempt.started
                metrics.jobs.labels(self.key, outcome).inc()
                metrics.job_duration.labels(self.key).observe(seconds)
        log_fields = {"queue": self.key, "outcome": outcome, "seconds": round(seconds, 3), **attempt.log_fields()}
        log.log(LOG_LEVEL_BY_OUTCOME.get(outcome, logging.INFO), "attempt ended", **log_fields)
