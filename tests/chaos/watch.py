"""Watches a run from outside: how far it is, in figures over time, and whether it has come to rest."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import aio_pika
import asyncpg

from tests.chaos.feeder import Feeder
from tests.chaos.fleet import RETRY_DELAYS
from tests.chaos.world import World
from worker.broker import topology

TELL_SECONDS = 5.0
CALM_LOOKS = 4
COUNTS = """
    select count(*) filter (where t.status in ('completed', 'partial', 'failed', 'cancelled')) as ended,
      count(*) filter (where t.status in ('queued', 'running', 'retrying')) as open,
      count(distinct t.generation_id) as known
    from outlast_tasks t
"""
AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(frozen=True)
class Sample:
    """Seconds from the start, generations inserted, tasks that ended, tasks that wait or run."""

    at: float
    inserted: int
    ended: int
    open: int


class Watch:
    """Takes a sample a second. Of one generation there is one task."""

    def __init__(self, world: World, feeder: Feeder, say: Callable[[str], None]) -> None:
        self.samples: list[Sample] = []
        self._world = world
        self._feeder = feeder
        self._say = say

    async def run(self, started: float) -> None:
        """Take samples until cancelled, tell of them now and then, and see that all processes are there."""
        told = 0.0
        while True:
            await self._world.fleet.replace_fallen()
            sample = await self._look(time.monotonic() - started)
            if sample is not None:
                self.samples.append(sample)
                if sample.at - told >= TELL_SECONDS:
                    told = sample.at
                    self._say(f"{sample.inserted} inserted, {sample.ended} ended, {sample.open} open")
            await asyncio.sleep(1)

    async def _look(self, at: float) -> Sample | None:
        """Count; None while the database is away."""
        with contextlib.suppress(*AWAY):
            async with self._world.sql() as sql:
                row = await sql.fetchrow(COUNTS)
                return Sample(at, self._feeder.inserted, row["ended"], row["open"])
        return None

    async def rest(self, wanted: int, patience: float) -> bool:
        """Wait until every generation has ended and the queues are empty, at most `patience` seconds."""
        calm = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while calm < CALM_LOOKS:
                    calm = calm + 1 if await self._calm(wanted) else 0
                    await asyncio.sleep(0.5)
        return calm >= CALM_LOOKS

    async def _calm(self, wanted: int) -> bool:
        try:
            async with self._world.sql() as sql:
                row = await sql.fetchrow(COUNTS)
            return row["open"] == 0 and row["known"] >= wanted and sum((await depths(self._world)).values()) == 0
        except (*AWAY, aio_pika.exceptions.AMQPError):
            return False


async def depths(world: World) -> dict[str, int]:
    """Return how many messages wait in each queue, the dead letters' apart."""
    found = {}
    async with await aio_pika.connect(world.broker.url, timeout=5) as connection:
        channel = await connection.channel()
        for spec in topology.queues(RETRY_DELAYS):
            if spec.name != topology.DEAD:
                declared = await channel.declare_queue(spec.name, passive=True)
                found[spec.name] = declared.declaration_result.message_count or 0
    return found
