"""A worker's consumers together: leases renewed, cancellations heard, outages waited out, an end without loss."""

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
from worker.consume.settlement import WorkerContext

log = structlog.stdlib.get_logger(__name__)
HEARTBEAT_SECONDS: Final = LEASE_SECONDS / 3


class Worker:
    """Everything one worker process does with messages. `stop_requested` is set by a control message."""

    def __init__(self, broker: Broker, context: WorkerContext, consumers: Sequence[Consumer]) -> None:
        self.stop_requested = asyncio.Event()
        self._broker = broker
        self._context = context
        self._consumers = tuple(consumers)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """The name this worker has in the database."""
        return self._context.worker

    def outage(self, name: str) -> str | None:
        """Say since when a dependency has been away; None when it is there."""
        return self._context.circuit.problem(name)

    @property
    def attempts(self) -> list[DeliveryHandler]:
        """What is attended to now, over all queues."""
        return [attempt for consumer in self._consumers for attempt in consumer.attempts]

    async def start(self) -> None:
        """Begin, once the broker is there. Raises TopologyError."""
        await self._broker.wait_ready()
        self._also(self._beat(), "heartbeat")
        self._also(listen(self._broker, self.on_command), "control")
        self._also(self._context.progress_writer.run(), "progress")
        self._also(self._context.circuit.watch(self._pause, self._resume), "circuit")
        await self._resume()

    async def stop(self, grace: float) -> None:
        """Take nothing more, let what runs finish for `grace` seconds, hand the rest back."""
        self._stopping = True
        await self._pause()
        await asyncio.gather(*(consumer.finish(grace) for consumer in self._consumers))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_command(self, command: Command) -> None:
        """Do at once what somebody told all workers."""
        if command.do == "stop" and command.worker in {None, self._context.worker}:
            self.stop_requested.set()
        elif command.do == "cancel":
            for attempt in self.attempts:
                if attempt.envelope is not None and attempt.envelope.job.task_id == command.task_id:
                    attempt.stop("cancelled")

    async def renew_leases(self) -> None:
        """Renew the leases of what runs; stop what was cancelled or taken over."""
        running = {str(held.lease): attempt for attempt in self.attempts if (held := attempt.leased) is not None}
        leases = [held.lease for attempt in running.values() if (held := attempt.leased) is not None]
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                reply = await self._context.records.heartbeat(self._context.worker, leases, self.stats())
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
                "queue": attempt.envelope.job.queue,
                "seconds": round(now - attempt.started, 1),
            }
            for attempt in self.attempts
            if attempt.envelope is not None
        ]
        return {
            "concurrency": {consumer.key: consumer.concurrency for consumer in self._consumers},
            "active": active,
            "paused": {name: said for name in ("storage", "disk") if (said := self.outage(name)) is not None},
        }

    async def _pause(self) -> None:
        await asyncio.gather(*(consumer.pause() for consumer in self._consumers))

    async def _resume(self) -> None:
        if not self._stopping:
            await asyncio.gather(*(consumer.start() for consumer in self._consumers))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self.renew_leases()
            except Exception:
                # Whatever it was, without heartbeats every lease here would run out.
                log.exception("heartbeat crashed")

    def _also(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))
