"""Measures the progress of a run from outside, and detects when it is idle."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import aio_pika
import asyncpg

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fleet import RETRY_DELAYS
from tests.chaos.inserter import GenerationInserter
from worker.broker import topology

REPORT_SECONDS = 5.0
IDLE_CHECKS = 4
COUNTS = """
    select count(*) filter (where t.status in ('completed', 'partial', 'failed', 'cancelled')) as ended,
      count(*) filter (where t.status in ('queued', 'running', 'retrying')) as open,
      count(distinct t.generation_id) as known
    from outlast_tasks t
"""
DATABASE_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(frozen=True)
class ProgressSample:
    """Seconds from the start, generations inserted, tasks ended, tasks queued or running."""

    at: float
    inserted: int
    ended: int
    open: int


class ProgressMonitor:
    """Takes a sample every second. Each generation has one task."""

    def __init__(self, environment: ChaosEnvironment, inserter: GenerationInserter, log: Callable[[str], None]) -> None:
        self.samples: list[ProgressSample] = []
        self._environment = environment
        self._inserter = inserter
        self._log = log

    async def run(self, started: float) -> None:
        """Take samples until cancelled, log some of them, and replace processes that ended."""
        last_logged = 0.0
        while True:
            await self._environment.fleet.replace_exited()
            sample = await self._count(time.monotonic() - started)
            if sample is not None:
                self.samples.append(sample)
                if sample.at - last_logged >= REPORT_SECONDS:
                    last_logged = sample.at
                    self._log(f"{sample.inserted} inserted, {sample.ended} ended, {sample.open} open")
            await asyncio.sleep(1)

    async def _count(self, at: float) -> ProgressSample | None:
        """Return the current counts; None while the database is unavailable."""
        with contextlib.suppress(*DATABASE_ERRORS):
            async with self._environment.sql() as sql:
                row = await sql.fetchrow(COUNTS)
                return ProgressSample(at, self._inserter.inserted, row["ended"], row["open"])
        return None

    async def wait_until_idle(self, wanted: int, patience: float) -> bool:
        """Wait at most `patience` seconds for all generations to end and all queues to be empty; return whether."""
        idle_checks = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while idle_checks < IDLE_CHECKS:
                    idle_checks = idle_checks + 1 if await self._idle(wanted) else 0
                    await asyncio.sleep(0.5)
        return idle_checks >= IDLE_CHECKS

    async def _idle(self, wanted: int) -> bool:
        try:
            async with self._environment.sql() as sql:
                row = await sql.fetchrow(COUNTS)
            return (
                row["open"] == 0
                and row["known"] >= wanted
                and sum((await queue_depths(self._environment)).values()) == 0
            )
        except (*DATABASE_ERRORS, aio_pika.exceptions.AMQPError):
            return False


async def queue_depths(environment: ChaosEnvironment) -> dict[str, int]:
    """Return the number of messages in each queue except the dead letters."""
    found = {}
    async with await aio_pika.connect(environment.broker.url, timeout=5) as connection:
        channel = await connection.channel()
        for spec in topology.queues(RETRY_DELAYS):
            if spec.name != topology.DEAD:
                declared = await channel.declare_queue(spec.name, passive=True)
                found[spec.name] = declared.declaration_result.message_count or 0
    return found
