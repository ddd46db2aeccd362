"""Inject faults on a schedule drawn from a seed, and record when each one happened."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fleet import RETRY_DELAYS
from worker.broker import topology

DELETED_QUEUES = [spec.name for spec in topology.queues(RETRY_DELAYS) if spec.name != topology.DEAD]


@dataclass(frozen=True)
class Fault:
    """A fault to inject `at` seconds after the start."""

    at: float
    kind: str


@dataclass
class InjectedFault:
    """An injected fault, from `began` to `ended`, in seconds after the start."""

    kind: str
    began: float
    ended: float = field(default=0.0)


def schedule_faults(seed: int, seconds: float, wanted: Mapping[str, int]) -> list[Fault]:
    """Spread the faults of each kind: one at a random time in each of `count` equal parts of the time."""
    rng = random.Random(f"{seed} faults")  # noqa: S311 - reproducible, not for security
    faults = [
        Fault(seconds * (part + rng.random()) / count, kind)
        for kind, count in sorted(wanted.items())
        for part in range(count)
    ]
    return sorted(faults, key=lambda fault: fault.at)


class FaultInjector:
    """Injects faults, which may overlap; the broker and the database are never restarted twice at once."""

    def __init__(self, environment: ChaosEnvironment, seed: int, log: Callable[[str], None]) -> None:
        self.done: list[InjectedFault] = []
        self.counts: Counter[str] = Counter()
        self._environment = environment
        self._fleet = environment.fleet
        self._rng = random.Random(f"{seed} targets")  # noqa: S311 - reproducible, not for security
        self._log = log
        self._broker, self._database = asyncio.Lock(), asyncio.Lock()

    async def run(self, faults: list[Fault], started: float) -> None:
        """Inject every fault at its time after `started` (monotonic); return after the last one ended."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, started + fault.at - time.monotonic()))
                group.create_task(self._carry_out(fault.kind, started))

    async def _carry_out(self, kind: str, started: float) -> None:
        record = InjectedFault(kind, time.monotonic() - started)
        self.done.append(record)
        self.counts[kind] += 1
        self._log(f"fault: {kind.replace('_', ' ')}")
        await getattr(self, f"_{kind}")()
        record.ended = time.monotonic() - started

    async def _kill_worker(self) -> None:
        await self._fleet.kill(self._rng.choice(self._fleet.workers))
        await self._fleet.start_worker()

    async def _roll_worker(self) -> None:
        """Start a new worker, then terminate an old one, as a deployment does."""
        old = self._rng.choice(self._fleet.workers)
        await self._fleet.start_worker()
        if old in self._fleet.workers:
            await self._fleet.terminate(old)

    async def _kill_receiver(self) -> None:
        if self._fleet.receiver is not None:  # otherwise it is just being replaced
            await self._fleet.kill(self._fleet.receiver)
            await asyncio.sleep(0.5)
            await self._fleet.start_receiver()

    async def _stop_broker(self) -> None:
        async with self._broker:
            await self._environment.restart_broker(kill=False)

    async def _kill_broker(self) -> None:
        async with self._broker:
            await self._environment.restart_broker(kill=True)

    async def _stop_database(self) -> None:
        async with self._database:
            await self._environment.restart_database(kill=False)

    async def _kill_database(self) -> None:
        async with self._database:
            await self._environment.restart_database(kill=True)

    async def _delete_queue(self) -> None:
        """Delete a queue with its messages. Not the dead letters: nothing restores them."""
        async with self._broker:
            await self._environment.delete_queue(self._rng.choice(DELETED_QUEUES))

    async def _apply_sql(self) -> None:
        """Apply the SQL of `outlast init` again, as at an upgrade."""
        async with self._database:
            await self._environment.apply_sql()

    async def _cut_broker(self) -> None:
        await self._environment.to_broker.cut()

    async def _cut_supabase(self) -> None:
        await self._environment.to_supabase.cut()

    async def _refuse_broker(self) -> None:
        await self._environment.to_broker.refuse(3)

    async def _refuse_supabase(self) -> None:
        await self._environment.to_supabase.refuse(3)

    async def _slow_broker(self) -> None:
        await self._environment.to_broker.slow(4, delay=0.1)

    async def _slow_supabase(self) -> None:
        await self._environment.to_supabase.slow(4, delay=0.1)

    async def _storage_outage(self) -> None:
        await self._environment.fault_proxy.storage_outage(4)
