"""Webhook intake: the receiver and the minimal handler, with 64 connections and in bursts of 200.

The minimal handler omits the secret, the schema, the relevance check, metrics, a time limit and a log line.
"""

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import aiohttp

from deploy.local.processes import Child, free_port
from tests.benchmarks.environment import ROOT, BenchmarkEnvironment, BenchmarkRun, FileTask
from tests.benchmarks.latency import SECRET, percentile, start_receiver, webhook
from tests.benchmarks.report import Report
from tests.benchmarks.resource_usage import pss_mib

REQUESTS = 10_000
CONNECTIONS = 64
BURST = 200
BURSTS = 10
ACCEPTED, UNAVAILABLE = 202, 503
RESEND_SECONDS = 0.2
HEADERS = {"x-webhook-secret": SECRET}


async def intake(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Run receiver and minimal handler in turn; also report the receiver's memory when idle, and how much it grew."""
    rates: dict[str, list[float]] = {"outlast": [], "bare": []}
    slowest, slowest_of_burst, idle, memory = [], [], [], []
    for _ in range(rounds):
        async with environment.new_run() as run, _outlast(run) as (child, url):
            idle.append(pss_mib(child.process.pid))
            seconds, times = await _flood(url, REQUESTS, CONNECTIONS)
            rates["outlast"].append(REQUESTS / seconds)
            slowest.append(max(times))
            report.row("intake", "outlast", p99_ms=[1000 * percentile(times, 99)], slowest_ms=[1000 * max(times)])
            memory.append(pss_mib(child.process.pid) - idle[-1])
            for _ in range(BURSTS):
                _, times = await _flood(url, BURST, BURST)
                slowest_of_burst.append(max(times))
        async with environment.new_run() as run, _bare(run) as url:
            seconds, _ = await _flood(url, REQUESTS, CONNECTIONS)
            rates["bare"].append(REQUESTS / seconds)
    for side, found in rates.items():
        report.row("intake", side, per_second=found)
    bursts = [1000 * seconds for seconds in slowest_of_burst]
    report.row("intake", "outlast", burst_slowest_ms=bursts, idle_mib=idle, grown_mib=memory)
    pairs = zip(rates["outlast"], rates["bare"], strict=True)
    report.ratio("intake_over_bare", statistics.median(ours / bare for ours, bare in pairs))
    report.ratio("intake_slowest_seconds", max(slowest))
    report.ratio("burst_slowest_seconds", max(slowest_of_burst))


@contextlib.asynccontextmanager
async def _outlast(run: BenchmarkRun) -> AsyncIterator[tuple[Child, str]]:
    child, url = await start_receiver(run)
    try:
        yield child, url
    finally:
        await child.stop(10)


@contextlib.asynccontextmanager
async def _bare(run: BenchmarkRun) -> AsyncIterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "tests.benchmarks.bare_receiver", run.rabbitmq_url, str(port)]
    child = await Child.spawn("bare", argv, data_dir=run.environment.folder, cwd=ROOT)
    try:
        await child.wait_until_ready(f"http://127.0.0.1:{port}/ready", 30)
        yield f"http://127.0.0.1:{port}/webhook"
    finally:
        await child.stop(10)


async def _flood(url: str, count: int, connections: int) -> tuple[float, Sequence[float]]:
    """Send `count` webhooks over this many connections; return the total seconds and those of each webhook.

    A webhook that is refused with 503, because the broker is slow, is sent again; its seconds include that.
    """
    bodies = iter(
        [webhook(FileTask(str(uuid4()), str(uuid4()), "https://fal.media/files/a.png")) for _ in range(count)]
    )
    times: list[float] = []
    connector = aiohttp.TCPConnector(limit=connections)

    async def send_bodies(session: aiohttp.ClientSession) -> None:
        for body in bodies:
            began = time.perf_counter()
            while not await _is_accepted(session, url, body):
                await asyncio.sleep(RESEND_SECONDS)
            times.append(time.perf_counter() - began)

    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.perf_counter()
        await asyncio.gather(*(send_bodies(session) for _ in range(connections)))
        return time.perf_counter() - began, times


async def _is_accepted(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> bool:
    async with session.post(url, json=body, headers=HEADERS) as answer:
        text = await answer.text()
        if answer.status not in {ACCEPTED, UNAVAILABLE}:
            raise RuntimeError(f"{url} answered {answer.status}: {text[:300]}")
        return answer.status == ACCEPTED
