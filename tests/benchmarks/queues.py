"""The queue alone: messages that only get acknowledged, by our consumer, FastStream and Celery.

Each is set up as its documentation says, with quorum queues where possible, acknowledging one message at a time.
"""

import asyncio
import statistics
import sys
import time

import aio_pika

from deploy.local.processes import Child
from tests.benchmarks.environment import ROOT, BenchmarkEnvironment, BenchmarkRun
from tests.benchmarks.noop_consumers import QUEUES
from tests.benchmarks.report import Report

COUNT = 5_000
LIMIT_SECONDS = 120.0


async def queues(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Run all three, in turn."""
    rates: dict[str, list[float]] = {side: [] for side in QUEUES}
    for _ in range(rounds):
        for side in QUEUES:
            async with environment.new_run() as run:
                rates[side].append(COUNT / await _drained(run, side))
    for side, found in rates.items():
        report.row("queue alone", side, per_second=found)
    for other in rates.keys() - {"outlast"}:
        report.ratio(f"queue_over_{other}", _ratio(rates, other))


def _ratio(rates: dict[str, list[float]], other: str) -> float:
    return statistics.median(ours / theirs for ours, theirs in zip(rates["outlast"], rates[other], strict=True))


async def _drained(run: BenchmarkRun, side: str) -> float:
    """Fill a side's queue, then start its consumer; return the seconds from the first message to the last."""
    program = [sys.executable, "-m", "tests.benchmarks.noop_consumers", side, run.rabbitmq_url]
    filling = await asyncio.create_subprocess_exec(*program, "fill", str(COUNT), cwd=ROOT)
    if await filling.wait():
        raise RuntimeError(f"{side}: the queue could not be filled")
    child = await Child.spawn(f"nothing-{side}", [*program, "drain"], data_dir=run.environment.folder, cwd=ROOT)
    try:
        async with await aio_pika.connect(run.rabbitmq_url) as connection:
            channel = await connection.channel()
            await _until(channel, QUEUES[side], child, COUNT - COUNT // 50)
            began = time.monotonic()
            await _until(channel, QUEUES[side], child, 0)
            return (time.monotonic() - began) * COUNT / (COUNT - COUNT // 50)
    finally:
        await child.stop(10)


async def _until(channel: aio_pika.abc.AbstractChannel, queue: str, child: Child, left: int) -> None:
    """Wait until at most `left` messages are queued."""
    limit = time.monotonic() + LIMIT_SECONDS
    while (await channel.declare_queue(queue, passive=True)).declaration_result.message_count > left:
        if not child.running or time.monotonic() > limit:
            raise RuntimeError(f"{child.name} does not drain its queue: {child.tail()}")
        await asyncio.sleep(0.005)
