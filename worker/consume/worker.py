"""The worker: its consumers, heartbeats that renew leases, broadcast commands, the circuit breaker, shutdown."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import structlog

from handlers.database.task_records import LEASE_SECONDS
from handlers.errors import FileProcessingError
from worker.broker.broadcast import Command, listen
from worker.broker.connection import Broker
from worker.consume.consumer import Consumer, DeliveryHandler
from worker.consume.context import WorkerContext

log = structlog.stdlib.get_logger(__name__)
HEARTBEAT_SECONDS: Final = LEASE_SECONDS / 3
RENEW_AFTER_SECONDS: Final = (2, 10)
"""Pauses after which consumers are renewed, one after the other, when RabbitMQ has cancelled one."""


class Worker:
    """All consumers of one process. A broadcast `stop` command sets `stop_requested`."""

    def __init__(self, broker: Broker, context: WorkerContext, consumers: Sequence[Consumer]) -> None:
        self.stop_requested = asyncio.Event()
        self._broker = broker
        self._context = context
        self._consumers = tuple(consumers)
        self._stopping = False
        self._paused_queues: frozenset[str] = frozenset()  # queues that an operator has paused
        self._all_paused = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """The name this worker has in the database."""
        return self._context.worker

    def outage(self, name: str) -> str | None:
        """Return since when and why a dependency is unavailable, or None if it is available."""
        return self._context.circuit.problem(name)

    @property
    def attempts(self) -> list[DeliveryHandler]:
        """The deliveries in process, over all queues."""
        return [attempt for consumer in self._consumers for attempt in consumer.attempts]

    async def start(self) -> None:
        """Start consuming once the broker is connected. Raises TopologyError."""
        await self._broker.wait_ready()
        self._start_task(self._send_heartbeats(), "heartbeat")
        self._start_task(listen(self._broker, self.on_command), "control")
        self._start_task(self._context.progress_writer.run(), "progress")
        self._start_task(self._renew_consumers(), "renewal of consumers")
        self._start_task(self._context.circuit.watch(self._pause, self._resume), "circuit")
        await self._resume()

    async def stop(self, grace: float) -> None:
        """Stop consuming, wait at most about `grace` seconds for jobs in process, requeue those that are left."""
        self._stopping = True
        await self._pause()
        await asyncio.gather(*(consumer.drain(grace) for consumer in self._consumers))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_command(self, command: Command) -> None:
        """Carry out a broadcast command."""
        if command.do == "stop" and command.worker in {None, self._context.worker}:
            self.stop_requested.set()
        elif command.do == "cancel":
            for attempt in self.attempts:
                if attempt.envelope is not None and attempt.envelope.job.task_id == command.task_id:
                    attempt.stop("cancelled")

    async def renew_leases(self) -> None:
        """Renew the leases of jobs in process; stop jobs that were cancelled or that another worker has taken over."""
        settlements = [(attempt, settlement) for attempt in self.attempts if (settlement := attempt.leased) is not None]
        running = {str(settlement.lease): attempt for attempt, settlement in settlements}
        leases = [settlement.lease for _, settlement in settlements]
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                reply = await self._context.records.heartbeat(self._context.worker, leases, self.stats())
        except (FileProcessingError, TimeoutError) as error:
            log.warning("heartbeat failed", error=str(error) or type(error).__name__)
            return
        if reply.paused is not None:
            await self._pause_queues(frozenset(reply.paused))
        for lease in reply.lost:
            if lease in running:
                running[lease].stop("lost")
        for attempt in running.values():
            if attempt.envelope is not None and str(attempt.envelope.job.task_id) in reply.cancelled:
                attempt.stop("cancelled")

    def stats(self) -> dict[str, Any]:
        """Return the worker's statistics. `active` has an entry for each job, with the seconds since it started."""
        now = time.monotonic()
        active = [
            {
                "task_id": str(attempt.envelope.job.task_id),
                "binding": attempt.envelope.job.binding,
                "generation_id": attempt.envelope.job.generation_id,
                "queue": attempt.envelope.job.queue,
                "seconds": round(now - attempt.started, 1),
            }
            for attempt in self.attempts
            if attempt.envelope is not None
        ]
        return {
            "concurrency": {consumer.key: consumer.concurrency for consumer in self._consumers},
            "active": active,
            "paused": {name: outage for name in ("storage", "disk") if (outage := self.outage(name)) is not None},
        }

    async def _pause(self) -> None:
        self._all_paused = True
        await asyncio.gather(*(consumer.pause() for consumer in self._consumers))

    async def _resume(self) -> None:
        self._all_paused = False
        if not self._stopping:
            await asyncio.gather(
                *(consumer.start() for consumer in self._consumers if consumer.key not in self._paused_queues)
            )

    async def _pause_queues(self, queues: frozenset[str]) -> None:
        """Take no jobs from these queues, and take jobs again from those that were paused before."""
        paused, resumed, self._paused_queues = queues - self._paused_queues, self._paused_queues - queues, queues
        for consumer in self._consumers:
            if consumer.key in paused:
                log.info("queue paused by an operator", queue=consumer.key)
                await consumer.pause()
            elif consumer.key in resumed and not (self._all_paused or self._stopping):
                self._start_task(consumer.start(), f"resume {consumer.key}")

    async def _renew_consumers(self) -> None:
        """Consume again after RabbitMQ has cancelled a consumer.

        aio-pika consumes again at once. If RabbitMQ is still deleting the old queue then, that consumer belongs to the
        old queue and never gets a message, and RabbitMQ does not report it.
        """
        cancelled = self._broker.consumer_cancelled
        while True:
            await cancelled.wait()
            for seconds in RENEW_AFTER_SECONDS:
                cancelled.clear()
                await asyncio.sleep(seconds)
                await asyncio.gather(*(consumer.renew() for consumer in self._consumers))

    async def _send_heartbeats(self) -> None:
        while True:  # the first one at once, which tells which queues are paused
            try:
                await self.renew_leases()
            except Exception:
                # Go on: without heartbeats all leases of this worker would expire.
                log.exception("heartbeat crashed")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _start_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(coroutine, name=name))
