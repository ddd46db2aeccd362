"""Ten a second: how long from the webhook, or the peer's enqueueing, until the file stands on its row."""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import aiohttp

from deploy.local.processes import Child, free_port
from tests.benchmarks import corpus
from tests.benchmarks.ground import Errand, Ground, Run
from tests.benchmarks.report import Report
from tests.benchmarks.sides import READY_SECONDS, Outlast, Peer, enqueuer

PER_SECOND = 10
COUNT = 300
WARM = 20
SECRET = "a-secret-of-the-benchmarks"
Sender = Callable[[Errand], Awaitable[None]]


async def steady(ground: Ground, report: Report, rounds: int) -> None:
    """Both sides at the same pace, turn by turn."""
    names = corpus.make(ground.files, "1024", 6)
    late: dict[str, list[list[float]]] = {"outlast": [], "celery": []}
    for _ in range(rounds):
        late["outlast"].append(await _outlast(ground, names))
        late["celery"].append(await _celery(ground, names))
    for side, found in late.items():
        report.row(
            "steady 10/s", side, **{f"p{p}_ms": [1000 * percentile(one, p) for one in found] for p in (50, 95, 99)}
        )
    pairs = zip(late["outlast"], late["celery"], strict=True)
    report.ratio("steady_p50_over_peer", statistics.median(percentile(a, 50) / percentile(b, 50) for a, b in pairs))
    report.series["latency by percentile in seconds"] = {
        side: [(p, percentile(found[0], p)) for p in range(1, 100)] for side, found in late.items()
    }


async def _outlast(ground: Ground, names: Sequence[str]) -> list[float]:
    async with ground.fresh() as run, Outlast().working(run), aiohttp.ClientSession() as session:
        receiver, url = await start_receiver(run)

        async def send(errand: Errand) -> None:
            async with session.post(url, json=webhook(errand), headers={"x-webhook-secret": SECRET}) as answer:
                answer.raise_for_status()

        try:
            return await _paced(run, names, send)
        finally:
            await receiver.stop(10)


async def _celery(ground: Ground, names: Sequence[str]) -> list[float]:
    async with ground.fresh() as run, Peer().working(run):
        with enqueuer(run.rabbitmq_url) as enqueue:

            async def send(errand: Errand) -> None:
                enqueue(errand)

            return await _paced(run, names, send)


async def _paced(run: Run, names: Sequence[str], send: Sender) -> list[float]:
    """Send at an even pace; return for each errand the seconds from sending to its row."""
    errands = await run.errands(names, WARM + COUNT)
    for errand in errands[:WARM]:
        await send(errand)
    await run.until(WARM, READY_SECONDS)
    sent, began = {}, time.monotonic()
    for number, errand in enumerate(errands[WARM:]):
        await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
        sent[errand.generation_id] = time.time()
        await send(errand)
    await run.until(WARM + COUNT, READY_SECONDS)
    rows = await run.sql.fetch("select generation_id::text as id, extract(epoch from at)::float8 as at from arrivals")
    return [row["at"] - sent[row["id"]] for row in rows if row["id"] in sent]


async def start_receiver(run: Run) -> tuple[Child, str]:
    """Start a receiver; return it with the address of Supabase's webhooks."""
    port = free_port()
    env = {**run.environment, "RECEIVER_HOST": "127.0.0.1", "RECEIVER_PORT": str(port), "LOG_FORMAT": "json"}
    env["SUPABASE_WEBHOOK_SECRETS"] = SECRET
    argv = [sys.executable, "-m", "worker", "receiver"]
    folder = run.ground.folder
    child = await Child.spawn("receiver", argv, data_dir=folder, env=env, cwd=folder)
    await child.wait_until_ready(f"http://127.0.0.1:{port}/readyz", READY_SECONDS)
    return child, f"http://127.0.0.1:{port}/webhooks/supabase"


def webhook(errand: Errand) -> dict[str, object]:
    """Return what Supabase sends when this generation completes."""
    record = {
        "id": errand.generation_id,
        "user_id": errand.user_id,
        "status": "completed",
        "output": {"images": [{"url": errand.url, "content_type": "image/png"}], "prompt": "a lighthouse in a storm"},
    }
    old = {**record, "status": "running", "output": None}
    return {"type": "UPDATE", "table": "generations", "record": record, "schema": "public", "old_record": old}


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many per cent of all do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
