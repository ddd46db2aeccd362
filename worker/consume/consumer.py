"""Takes deliveries off one work queue and has each attended to; can pause, go on, and stop without losing any."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, AbstractRobustChannel

from schemas.jobs import Queue
from worker.broker import topology
from worker.broker.connection import BROKER_ERRORS, RECONNECT_SECONDS, Broker, translate_broker_errors
from worker.broker.envelope import Envelope
from worker.consume.attempt import Attempt, StopReason
from worker.consume.delivery import Delivery
from worker.consume.settlement import Settlement, WorkerContext

log = structlog.stdlib.get_logger(__name__)
CANCEL_SECONDS = 5.0
REQUEUE_SECONDS = 5.0
MIN_REQUEUE_SECONDS = 2.0
LOG_LEVEL_BY_OUTCOME: Final = {
    **dict.fromkeys(("failed", "undecodable", "crashed"), logging.ERROR),
    **dict.fromkeys(("partial", "retried", "excused", "lost", "redelivered"), logging.WARNING),
}
"""How loud an attempt's end is told; all others are as they should be."""


class DeliveryHandler(Protocol):
    """What is done about one delivery: an Attempt at a job, or a Chore. `started` is of the monotonic clock."""

    @property
    def delivery(self) -> Delivery:
        """The delivery."""

    @property
    def started(self) -> float:
        """When it began."""

    @property
    def envelope(self) -> Envelope | None:
        """The job, once it is read; None where there is none."""

    @property
    def leased(self) -> Settlement | None:
        """What holds a task's lease."""

    def log_fields(self) -> dict[str, Any]:
        """Return what it did, for the log."""

    def stop(self, why: StopReason) -> None:
        """End it early."""

    async def run(self) -> str:
        """Do everything there is to do about it; return how it ended."""


class Consumer:
    """Attends to at most `concurrency` deliveries at once: prefetch is the same number, so none waits in a buffer.

    `handle` makes what attends to a delivery, an Attempt unless told otherwise.
    """

    def __init__(
        self,
        broker: Broker,
        context: WorkerContext,
        concurrency: int,
        queue: Queue = Queue.FILES,
        handle: Callable[[Delivery], DeliveryHandler] | None = None,
    ) -> None:
        self.concurrency = concurrency
        self.key = queue
        self._broker = broker
        self._context = context
        self._handle = handle or (lambda delivery: Attempt(delivery, context))
        self._attempts: dict[asyncio.Task[None], DeliveryHandler] = {}
        self._channel: AbstractRobustChannel | None = None
        self._queue: AbstractQueue | None = None
        self._tag: str | None = None

    @property
    def attempts(self) -> list[DeliveryHandler]:
        """What is attended to now."""
        return list(self._attempts.values())

    async def start(self) -> None:
        """Begin to consume, or go on; tries until the broker lets it."""
        while self._tag is None:
            try:
                with translate_broker_errors():
                    self._queue = self._queue or await self._open()
                    self._tag = await self._queue.consume(self._deliver)
            except BROKER_ERRORS as error:
                log.warning("broker lost before consuming", reason=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)
        log.info("consuming", queue=topology.work_queue(self.key), concurrency=self.concurrency)

    async def pause(self) -> None:
        """Take nothing more; what runs goes on. `start` goes on."""
        if self._queue is not None and self._tag is not None:
            tag, self._tag = self._tag, None
            with contextlib.suppress(Exception), translate_broker_errors():
                await asyncio.wait_for(self._queue.cancel(tag), CANCEL_SECONDS)

    async def finish(self, grace: float) -> None:
        """Let what runs finish, hand the rest back, close, all in `grace` seconds; the last ones are for handing back.

        What cannot be handed back then, the broker has back when the channel closes.
        """
        handing_back = min(REQUEUE_SECONDS, grace / 5)
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=grace - handing_back)
        for attempt in self.attempts:
            attempt.stop("shutdown")
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=max(handing_back, MIN_REQUEUE_SECONDS))
        if self._channel is not None:
            with contextlib.suppress(Exception), translate_broker_errors():
                await self._channel.close()

    async def _open(self) -> AbstractQueue:
        self._channel = self._channel or await self._broker.channel()
        await self._channel.set_qos(prefetch_count=self.concurrency)
        return await self._channel.get_queue(topology.work_queue(self.key))

    async def _deliver(self, message: AbstractIncomingMessage) -> None:
        attempt = self._handle(Delivery(message, self._broker, self._context.metrics))
        task = asyncio.create_task(self._attend(attempt))
        self._attempts[task] = attempt
        task.add_done_callback(self._attempts.pop)

    async def _attend(self, attempt: DeliveryHandler) -> None:
        """Run one attempt and say in one line how it went."""
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
