"""Latency at ten files a second: from the webhook, or the peer's enqueueing, until the row is written."""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import aiohttp

from deploy.local.processes import Child, free_port
from tests.benchmarks import corpus
from tests.benchmarks.environment import BenchmarkEnvironment, BenchmarkRun, FileTask
from tests.benchmarks.report import Report
from tests.benchmarks.sides import READY_SECONDS, Outlast, Peer, enqueuer

PER_SECOND = 10
COUNT = 300
WARM = 20
SECRET = "a-secret-of-the-benchmarks"
Sender = Callable[[FileTask], Awaitable[None]]


async def latency(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Run both sides at the same rate, in turn."""
    names = corpus.make(environment.files, "1024", 6)
    latencies: dict[str, list[list[float]]] = {"outlast": [], "celery": []}
    for _ in range(rounds):
        latencies["outlast"].append(await _outlast(environment, names))
        latencies["celery"].append(await _celery(environment, names))
    for side, found in latencies.items():
        report.row(
            "10 files a second",
            side,
            **{f"p{p}_ms": [1000 * percentile(one, p) for one in found] for p in (50, 95, 99)},
        )
    pairs = zip(latencies["outlast"], latencies["celery"], strict=True)
    report.ratio("latency_p50_over_peer", statistics.median(percentile(a, 50) / percentile(b, 50) for a, b in pairs))
    report.series["latency by percentile in seconds"] = {
        side: [(p, percentile(found[0], p)) for p in range(1, 100)] for side, found in latencies.items()
    }


async def _outlast(environment: BenchmarkEnvironment, names: Sequence[str]) -> list[float]:
    async with environment.new_run() as run, Outlast().run_workers(run), aiohttp.ClientSession() as session:
        receiver, url = await start_receiver(run)

        async def send(task: FileTask) -> None:
            async with session.post(url, json=webhook(task), headers={"x-webhook-secret": SECRET}) as answer:
                answer.raise_for_status()

        try:
            return await _send_at_pace(run, names, send)
        finally:
            await receiver.stop(10)


async def _celery(environment: BenchmarkEnvironment, names: Sequence[str]) -> list[float]:
    async with environment.new_run() as run, Peer().run_workers(run):
        with enqueuer(run.rabbitmq_url) as enqueue:

            async def send(task: FileTask) -> None:
                enqueue(task)

            return await _send_at_pace(run, names, send)


async def _send_at_pace(run: BenchmarkRun, names: Sequence[str], send: Sender) -> list[float]:
    """Send at a constant rate; return for each task the seconds from sending to its row."""
    tasks = await run.tasks(names, WARM + COUNT)
    for task in tasks[:WARM]:
        await send(task)
    await run.wait_for_count(WARM, READY_SECONDS)
    sent, began = {}, time.monotonic()
    for number, task in enumerate(tasks[WARM:]):
        await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
        sent[task.generation_id] = time.time()
        await send(task)
    await run.wait_for_count(WARM + COUNT, READY_SECONDS)
    rows = await run.sql.fetch("select generation_id::text as id, extract(epoch from at)::float8 as at from arrivals")
    return [row["at"] - sent[row["id"]] for row in rows if row["id"] in sent]


async def start_receiver(run: BenchmarkRun) -> tuple[Child, str]:
    """Start a receiver; return it with the URL for Supabase's webhooks."""
    port = free_port()
    env = {**run.env, "RECEIVER_HOST": "127.0.0.1", "RECEIVER_PORT": str(port), "LOG_FORMAT": "json"}
    env["SUPABASE_WEBHOOK_SECRETS"] = SECRET
    argv = [sys.executable, "-m", "worker", "receiver"]
    folder = run.environment.folder
    child = await Child.spawn("receiver", argv, data_dir=folder, env=env, cwd=folder)
    await child.wait_until_ready(f"http://127.0.0.1:{port}/readyz", READY_SECONDS)
    return child, f"http://127.0.0.1:{port}/webhooks/supabase"


def webhook(task: FileTask) -> dict[str, object]:
    """Return the webhook body that Supabase sends when this generation completes."""
    record = {
        "id": task.generation_id,
        "user_id": task.user_id,
        "status": "completed",
        "output": {"images": [{"url": task.url, "content_type": "image/png"}], "prompt": "a lighthouse in a storm"},
    }
    old = {**record, "status": "running", "output": None}
    return {"type": "UPDATE", "table": "generations", "record": record, "schema": "public", "old_record": old}


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that `percent` per cent of all values do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
