"""Faults one after the other, each until Prometheus raises its alert."""

import asyncio
import contextlib
import json
import time
from uuid import uuid4

import aio_pika
import asyncpg
from yarl import URL

from tests.metrics.load import GenerationLoad, kill_codecs
from tests.metrics.monitored_stack import CONCURRENCY, SWEEP_SECONDS, MonitoredStack
from tests.time_limits import LONG_WAIT_SECONDS

ALERT_WAIT_SECONDS = LONG_WAIT_SECONDS
UNDECODABLE_MESSAGES = 3
SWEEPS = 3
CODEC_RESTARTS = "max by (reason) (sum by (reason) (outlast_codec_restarts_total)) >= 6"
EXPECTED_ALERTS = {
    "unauthenticated webhooks, which the load sends": {"OutlastSignaturesRejected"},
    "sources gone, and hosts that are not listed": {"OutlastJobsFail", "OutlastSourcesDenied"},
    "undecodable messages": {"OutlastDeadLettersGrow"},
    "codecs killed": {"OutlastCodecRestarts"},
    "Storage unavailable": {"OutlastStorageFails"},
    "the broker stopped": {"OutlastWebhooksNotTaken", "OutlastNotScraped"},
    "webhooks lost": {"OutlastUnreconciled"},
}
"""What is done, and which alerts it must raise; all other alerts must stay silent."""
ALLOWED_ALERTS = {"OutlastWebhooksSlow"}
"""Webhooks that wait for a confirm when the broker stops are answered late; on a slow machine others are too."""
WARM_UP_JOBS = 40
"""Jobs completed before the first fault: the backlog alert uses the rate of ten minutes, longer than this run."""


async def inject_faults(run: MonitoredStack, rate: float = 0.75, quiet_seconds: float = 0) -> None:
    """Inject all faults under load, after `quiet_seconds`, and wait until no job is in flight."""
    load = GenerationLoad(run)
    await warm_up(run)
    await deduplicate_a_file(run)
    flowing = asyncio.create_task(load.send_until_cancelled(rate))
    try:
        await asyncio.sleep(quiet_seconds)
        async with asyncio.TaskGroup() as group:
            group.create_task(publish_undecodable(run))
            group.create_task(complete_with_bad_sources(run))
            group.create_task(crash_codecs(run))
        await replay_forbidden_sources(run, load)
        await kill_a_worker(run)
        await fail_storage(run)
        await stop_broker(run)
        await lose_webhooks(run)
    finally:
        flowing.cancel()
        await asyncio.gather(flowing, return_exceptions=True)
    if not flowing.cancelled():
        flowing.result()
    await run.prometheus.wait_for("outlast:jobs_in_flight:sum == 0", ALERT_WAIT_SECONDS)


async def wait_for_alerts(run: MonitoredStack, *names: str, when: str = "vector(1)") -> None:
    """Wait until all of these alerts fire at once, while `when` has a value."""
    conditions = [f'ALERTS{{alertstate="firing", alertname="{name}"}}' for name in names]
    await run.prometheus.wait_for(" and on () ".join([*conditions, when]), ALERT_WAIT_SECONDS)
    run.seen.update(names)


async def complete(run: MonitoredStack, url: str, user_id: str = "") -> None:
    """Insert a completed generation with one file, of a new user if none is given."""
    user_id = user_id or str(uuid4())
    row = {"id": str(uuid4()), "user_id": user_id, "status": "completed", "output": {"audio": {"url": url}}}
    await run.project.insert("generations", row)


async def warm_up(run: MonitoredStack) -> None:
    """Complete WARM_UP_JOBS small jobs."""
    for number in range(WARM_UP_JOBS):
        await complete(run, run.stack.source.file_url("tone.mp3", n=number))
    await run.prometheus.wait_for(
        f'sum(outlast_jobs_total{{outcome="completed"}}) >= {WARM_UP_JOBS}', ALERT_WAIT_SECONDS
    )


async def deduplicate_a_file(run: MonitoredStack) -> None:
    """Let one user complete the same file, until it is found stored and not stored again."""
    user_id = str(uuid4())
    async with asyncio.timeout(ALERT_WAIT_SECONDS):
        while not await run.prometheus.query("outlast_deduplicated_files_total > 0"):
            await complete(run, run.stack.source.file_url("tone.mp3"), user_id)
            await asyncio.sleep(1)


async def complete_with_bad_sources(run: MonitoredStack) -> None:
    """Complete generations whose files cannot be downloaded."""
    for number in range(12):
        await complete(run, f"{run.stack.source.url}/missing/{number}.mp3")
        await complete(run, f"https://example.com/{number}.mp3")


async def replay_forbidden_sources(run: MonitoredStack, load: GenerationLoad) -> None:
    """Replay dead letters until Prometheus has counted it."""
    async with asyncio.timeout(ALERT_WAIT_SECONDS):
        while not await run.prometheus.query("increase(outlast_dead_letters_replayed_total[1m]) > 0"):
            await load.replay()
            await asyncio.sleep(1)


async def publish_undecodable(run: MonitoredStack) -> None:
    """Publish messages that are not jobs."""
    async with await aio_pika.connect(run.broker.url) as connection:
        exchange = await (await connection.channel()).get_exchange("outlast")
        for body in (b"{}", b"\x00\xff", b'{"files": 7}')[:UNDECODABLE_MESSAGES]:
            await exchange.publish(aio_pika.Message(body, type="outlast.job.v1"), "file_processing")


async def crash_codecs(run: MonitoredStack) -> None:
    """Kill codec processes until enough of them were killed while decoding."""
    async with asyncio.timeout(ALERT_WAIT_SECONDS):
        while not await run.prometheus.query(CODEC_RESTARTS):
            for worker in run.stack.workers:
                await kill_codecs(worker.process.pid)


async def kill_a_worker(run: MonitoredStack) -> None:
    """Kill a busy worker as a power failure would, and start another."""
    port = URL(run.stack.endpoints.worker_metrics_urls[-1]).port
    for number in range(4):
        await complete(run, run.stack.source.file_url("tone.wav", slow=30_000, n=number))
    await run.prometheus.wait_for(
        f'outlast_jobs_in_progress{{instance="127.0.0.1:{port}"}} == {CONCURRENCY}', ALERT_WAIT_SECONDS
    )
    await run.stack.workers.pop().stop(0)
    await run.stack.start_worker()
    await run.scrape_current_workers()


async def fail_storage(run: MonitoredStack) -> None:
    """Let Storage fail until the alert fires, then wait until workers have noticed its return."""
    run.stack.fault_proxy.storage_down = True
    await wait_for_alerts(run, "OutlastStorageFails")
    run.stack.fault_proxy.storage_down = False
    await run.prometheus.wait_for('max(outlast_circuit_open{dependency="storage"}) == 0', ALERT_WAIT_SECONDS)


async def stop_broker(run: MonitoredStack) -> None:
    """Stop RabbitMQ until its alerts fire: webhooks sent meanwhile are refused and never sent again."""
    await run.broker.stop()
    await wait_for_alerts(run, "OutlastNotScraped", "OutlastWebhooksNotTaken")
    await run.broker.start()
    await run.prometheus.wait_for("sum(outlast:consumers:sum) > 0", ALERT_WAIT_SECONDS)


async def lose_webhooks(run: MonitoredStack) -> None:
    """Complete generations without their webhook until the alert fires, over several sweeps."""
    later = time.time() + SWEEPS * SWEEP_SECONDS
    swept = f"(max(outlast_last_sweep_timestamp_seconds) > {later:.0f})"
    alert = asyncio.create_task(wait_for_alerts(run, "OutlastUnreconciled", when=swept))
    connection = await asyncpg.connect(run.stack.endpoints.database_url)
    try:
        await connection.execute("set role none; set session_replication_role = replica")  # triggers do not fire
        while not alert.done():
            output = json.dumps(run.stack.source.output(["tone.mp3"]))
            await connection.execute(
                "insert into generations (id, user_id, status, output) values ($1, $2, 'completed', $3)",
                str(uuid4()),
                str(uuid4()),
                output,
            )
            await asyncio.wait([alert], timeout=1)
        await alert
    finally:
        alert.cancel()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await alert
        await connection.close()
