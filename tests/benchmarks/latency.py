"""Latency from the webhook, or the peer's enqueueing, until the row is completed; and memory under webhooks."""

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import aiohttp

from deploy.local.processes import Child, free_port
from tests.benchmarks import corpus
from tests.benchmarks.environment import BenchmarkEnvironment, BenchmarkRun, FileTask
from tests.benchmarks.report import Report
from tests.benchmarks.resource_usage import Meter
from tests.benchmarks.sides import READY_SECONDS, Outlast, Peer, enqueuer
from tests.benchmarks.throughput import best_peer, measure

PER_SECOND = 10
COUNT = 300
WARM = 20
BUSY = 0.7
"""The second rate, as a share of what the slower side can process."""
AT_ONCE = 1000.0
"""Webhooks a second: faster than they are processed."""
SECRET = "a-secret-of-the-benchmarks"
Sender = Callable[[FileTask], Awaitable[None]]


async def latency(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Run both sides at the same rate, in turn: at PER_SECOND, and at BUSY of what the slower one can process."""
    names = corpus.make(environment.files, "1024", 6)
    peer = await best_peer(environment, names, 150)
    slower = min([(await measure(environment, side, names, 200)).rate for side in (Outlast(), peer)])
    for label, rate in ((f"{PER_SECOND} files a second", PER_SECOND), ("70% of saturation", BUSY * slower)):
        latencies: dict[str, list[list[float]]] = {"outlast": [], peer.name: []}
        for _ in range(rounds):
            latencies["outlast"].append(await _outlast(environment, names, rate))
            latencies[peer.name].append(await _celery(environment, names, rate, peer))
        for side, found in latencies.items():
            figures = {f"p{p}_ms": [1000 * percentile(one, p) for one in found] for p in (50, 95, 99)}
            report.row(label, side, rate=[rate], **figures)
        name = "latency" if rate == PER_SECOND else "latency_busy"
        for percent in (50, 99):
            pairs = zip(*latencies.values(), strict=True)
            found_ratio = statistics.median(percentile(a, percent) / percentile(b, percent) for a, b in pairs)
            report.ratio(f"{name}_p{percent}_over_peer", found_ratio)
        report.series[f"{name} by percentile in seconds"] = {
            side: [(p, percentile(found[0], p)) for p in range(1, 100)] for side, found in latencies.items()
        }


async def serve(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Measure the memory of receiver, worker and codec processes: of `outlast serve`, and of separate processes."""
    names = corpus.make(environment.files, "1024", 6)
    peaks: dict[str, list[float]] = {"serve": [], "receiver and worker": []}
    for _ in range(rounds):
        for name, found in peaks.items():
            async with environment.new_run() as run, contextlib.AsyncExitStack() as stack:
                receiver, url = await start_receiver(run, "serve" if name == "serve" else "receiver")
                stack.push_async_callback(receiver.stop, 10)
                children = [receiver]
                if name != "serve":
                    children += await stack.enter_async_context(Outlast().run_workers(run))
                async with Meter([child.process.pid for child in children]) as meter:
                    await _send_at_pace(run, names, await stack.enter_async_context(_webhooks(url)), AT_ONCE)
                found.append(meter.peak)
    for name, found in peaks.items():
        report.row("memory", name, peak_mib=found)
    report.ratio("serve_peak_mib", statistics.median(peaks["serve"]))


@contextlib.asynccontextmanager
async def _webhooks(url: str) -> AsyncIterator[Sender]:
    """Yield a function that sends the webhook of a task."""
    async with aiohttp.ClientSession() as session:

        async def send(task: FileTask) -> None:
            async with session.post(url, json=webhook(task), headers={"x-webhook-secret": SECRET}) as answer:
                answer.raise_for_status()

        yield send


async def _outlast(environment: BenchmarkEnvironment, names: Sequence[str], rate: float) -> list[float]:
    async with environment.new_run() as run, Outlast().run_workers(run):
        receiver, url = await start_receiver(run, "receiver")
        try:
            async with _webhooks(url) as send:
                return await _send_at_pace(run, names, send, rate)
        finally:
            await receiver.stop(10)


async def _celery(environment: BenchmarkEnvironment, names: Sequence[str], rate: float, peer: Peer) -> list[float]:
    async with environment.new_run() as run, peer.run_workers(run):
        with enqueuer(run.rabbitmq_url) as enqueue:

            async def send(task: FileTask) -> None:
                enqueue(task)

            return await _send_at_pace(run, names, send, rate)


async def _send_at_pace(run: BenchmarkRun, names: Sequence[str], send: Sender, rate: float) -> list[float]:
    """Send at a constant rate; return for each task the seconds from sending to its row."""
    tasks = await run.tasks(names, WARM + COUNT)
    for task in tasks[:WARM]:
        await send(task)
    await run.wait_for_count(WARM, READY_SECONDS)
    sent, began = {}, time.monotonic()
    for number, task in enumerate(tasks[WARM:]):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        sent[task.generation_id] = time.time()
        await send(task)
    await run.wait_for_count(WARM + COUNT, READY_SECONDS)
    rows = await run.sql.fetch("select generation_id::text as id, extract(epoch from at)::float8 as at from arrivals")
    return [row["at"] - sent[row["id"]] for row in rows if row["id"] in sent]


async def start_receiver(run: BenchmarkRun, command: str = "receiver") -> tuple[Child, str]:
    """Start a receiver, or `serve`; return it with the URL for Supabase's webhooks."""
    port = free_port()
    env = {**run.env, "RECEIVER_HOST": "127.0.0.1", "RECEIVER_PORT": str(port), "LOG_FORMAT": "json"}
    env["SUPABASE_WEBHOOK_SECRETS"] = SECRET
    argv = [sys.executable, "-m", "worker", command]
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
