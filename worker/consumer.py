"""Takes deliveries off the work queue, has each attended to, renews their leases, and stops without losing any."""

import asyncio
import contextlib
import time
from typing import Any

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, AbstractRobustChannel

from handlers.errors import FileProcessingError
from handlers.record import LEASE_SECONDS
from schemas.jobs import Queue
from worker import topology
from worker.attempt import Attempt, Surroundings
from worker.broker import BROKER_ERRORS, RECONNECT_SECONDS, Broker
from worker.delivery import Delivery

log = structlog.stdlib.get_logger("outlast.worker")
HEARTBEAT_SECONDS = LEASE_SECONDS / 3


class Consumer:
    """Attends to at most `concurrency` deliveries at once: prefetch is the same number, so none waits in a buffer."""

    def __init__(self, broker: Broker, around: Surroundings, concurrency: int, queue: Queue = Queue.FILES) -> None:
        self._broker = broker
        self._around = around
        self._concurrency = concurrency
        self._key = queue
        self._attempts: dict[asyncio.Task[None], Attempt] = {}
        self._channel: AbstractRobustChannel | None = None
        self._queue: AbstractQueue | None = None
        self._tag: str | None = None
        self._heart: asyncio.Task[None] | None = None

    @property
    def worker(self) -> str:
        """The name this worker has in the database."""
        return self._around.worker

    async def start(self) -> None:
        """Begin to consume, once the broker is there. Raises TopologyError."""
        await self._broker.opened()
        self._heart = asyncio.create_task(self._beat(), name="heartbeat")
        while self._tag is None:
            try:
                self._channel = await self._broker.channel()
                await self._channel.set_qos(prefetch_count=self._concurrency)
                self._queue = await self._channel.get_queue(topology.work_queue(self._key))
                self._tag = await self._queue.consume(self._deliver)
            except BROKER_ERRORS as error:
                log.warning("broker lost before consuming", reason=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)
        log.info("consuming", queue=topology.work_queue(self._key), concurrency=self._concurrency)

    async def stop(self, grace: float) -> None:
        """Take nothing more, let what runs finish for `grace` seconds, hand the rest back."""
        if self._queue is not None and self._tag is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._queue.cancel(self._tag), 5)
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=grace)
        for attempt in self._attempts.values():
            attempt.stop("shutdown")
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=15)
        if self._heart is not None:
            self._heart.cancel()
        if self._channel is not None:
            with contextlib.suppress(Exception):
                await self._channel.close()

    async def _deliver(self, message: AbstractIncomingMessage) -> None:
        attempt = Attempt(Delivery(message, self._broker, self._around.metrics), self._around)
        task = asyncio.create_task(self._attend(attempt))
        self._attempts[task] = attempt
        task.add_done_callback(self._attempts.pop)

    async def _attend(self, attempt: Attempt) -> None:
        """Run one attempt and say in one line how it went."""
        metrics = self._around.metrics
        structlog.contextvars.clear_contextvars()
        with metrics.jobs_in_progress.track_inprogress():
            outcome = "crashed"
            try:
                outcome = await attempt.run()
            except Exception:
                log.exception("attempt crashed")
                await attempt.delivery.requeue()
            finally:
                seconds = time.monotonic() - attempt.started
                metrics.jobs.labels(self._key, outcome).inc()
                metrics.job_duration.labels(self._key).observe(seconds)
        log.info("attempt ended", outcome=outcome, seconds=round(seconds, 3))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self.renew()
            except Exception:
                # Whatever it was, without heartbeats every lease here would run out.
                log.exception("heartbeat crashed")

    async def renew(self) -> None:
        """Renew the leases of what runs; stop what was cancelled or taken over."""
        running = {str(attempt.lease): attempt for attempt in self._attempts.values() if attempt.leased}
        leases = [attempt.lease for attempt in running.values()]
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                reply = await self._around.records.heartbeat(self._around.worker, leases, self.stats())
        except (FileProcessingError, TimeoutError) as error:
            log.warning("heartbeat failed", error=str(error) or type(error).__name__)
            return
        for lease in reply.lost:
            if lease in running:
                running[lease].stop("lost")
        for attempt in running.values():
            if attempt.envelope is not None and str(attempt.envelope.job.task_id) in reply.cancelled:
                attempt.stop("cancelled")

    def stats(self) -> dict[str, Any]:
        """Return what this worker does now: `active` has one entry a job, seconds since it began."""
        now = time.monotonic()
        active = [
            {
                "task_id": str(attempt.envelope.job.task_id),
                "generation_id": attempt.envelope.job.generation_id,
                "seconds": round(now - attempt.started, 1),
            }
            for attempt in self._attempts.values()
            if attempt.envelope is not None
        ]
        return {"concurrency": self._concurrency, "active": active}
