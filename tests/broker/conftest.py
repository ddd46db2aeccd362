"""A worker in this process, on a real broker, a real database, a real gateway and a real source."""

import asyncio
import contextlib
from datetime import UTC, datetime
from uuid import uuid4

import aio_pika
import aiohttp
import asyncpg
import pytest
from pydantic import SecretStr
from yarl import URL

from deploy.local.gateway import Gateway
from schemas.jobs import Job, JobFile, output_key_for, task_id_for
from schemas.urls import source_key
from tests.chaos.wire import Wire
from tests.figures import figure
from tests.patience import LONG, SOON
from worker.app import worker_parts
from worker.broker.envelope import Envelope
from worker.observability.metrics import Metrics
from worker.runtime import serve
from worker.settings import Settings
from worker.web.receiver import Receiver

DELAYS = (1, 2)


class Bench:
    """One worker with all around it, and views into queue and database from outside."""

    def __init__(self, settings, metrics, parts, gateway, sql, channel, dsn):
        self.dsn = dsn
        self.settings, self.metrics, self.parts, self.gateway = settings, metrics, parts, gateway
        self.broker, self.worker, self.records = parts.broker, parts.worker, parts.records
        self.sql, self.channel = sql, channel

    def job(self, *urls, **more):
        files = tuple(JobFile(position=n, url=url, source_key=source_key(url)) for n, url in enumerate(urls))
        generation = str(uuid4())
        fields = {
            "task_id": task_id_for(generation, files, self.settings.profile),
            "generation_id": generation,
            "user_id": "u",
            "source": "api",
            "files": files,
            "total_files": len(files),
            "output_key": output_key_for([file.source_key for file in files]),
            "profile": self.settings.profile,
            "event_at": datetime.now(UTC),
        }
        return Job(**fields | more)

    async def send(self, job, **history):
        await self.broker.publish_job(Envelope(job, **history), 5)

    async def outcome(self, wanted, count=1, queue="file_processing"):
        """Wait until so many deliveries ended in this way."""
        async with asyncio.timeout(LONG):
            while self.ended(wanted, queue) < count:
                await asyncio.sleep(0.02)

    def ended(self, outcome, queue="file_processing"):
        return figure(self.metrics.jobs.labels(queue, outcome))

    async def pause(self):
        """Have the worker take no more jobs."""
        await self.worker._pause()

    async def task(self, job):
        row = await self.sql.fetchrow("select * from outlast_tasks where task_id = $1", job.task_id)
        return dict(row)

    async def take(self, queue):
        """Take one message out of a queue; None when it is empty."""
        found = await (await self.channel.get_queue(queue)).get(fail=False)
        if found is not None:
            await found.ack()
        return found

    async def waiting(self, queue):
        return (await self.channel.declare_queue(queue, passive=True)).declaration_result.message_count

    async def running(self):
        """Wait until a task is on record as running."""
        async with asyncio.timeout(SOON):
            while not await self.sql.fetchval("select count(*) from outlast_tasks where status = 'running'"):
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(rabbitmq_url, database_url, source, tmp_path, monkeypatch, request):
    """A bench; `@pytest.mark.settings(...)` changes its settings."""
    changed = request.node.get_closest_marker("settings")
    monkeypatch.chdir(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(Gateway(database_url=database_url, storage_dir=tmp_path / "objects"))
        key = gateway.service_role_key
        async with (
            aiohttp.ClientSession(headers={"apikey": key, "Authorization": f"Bearer {key}"}) as session,
            session.post(f"{gateway.url}/storage/v1/bucket", json={"id": "generations", "name": "generations"}),
        ):
            pass
        settings = Settings.load(
            rabbitmq_url=SecretStr(rabbitmq_url),
            supabase_url=gateway.url,
            supabase_service_role_key=SecretStr(key),
            source_allowlist=source.url,
            temp_dir=tmp_path,
            retry_delays=DELAYS,
            max_attempts=3,
            worker_concurrency=2,
            codec_processes=1,
        ).model_copy(update=changed.kwargs if changed else {})
        metrics = Metrics("test")
        parts = await stack.enter_async_context(worker_parts(settings, metrics, "bench"))
        await parts.worker.start()
        stack.push_async_callback(parts.worker.stop, 0)
        connection = await stack.enter_async_context(await aio_pika.connect(rabbitmq_url))
        sql = await asyncpg.connect(database_url)
        stack.push_async_callback(sql.close)
        yield Bench(settings, metrics, parts, gateway, sql, await connection.channel(), database_url)
    assert list(tmp_path.glob("outlast-*")) == []


@pytest.fixture
async def wire(rabbitmq_url):
    """What may be cut, slowed or silenced between us and RabbitMQ."""
    wire = Wire(URL(rabbitmq_url).port)
    await wire.start()
    yield wire
    await wire.stop()


@pytest.fixture
async def http(bench):
    """A client of a receiver on the bench, with the API's token; paths alone are asked for."""
    settings = bench.settings.model_copy(update={"api_token": SecretStr("the-api-token")})
    app = Receiver(settings, [], bench.broker, bench.metrics, bench.parts.supabase).app()
    async with (
        serve(app, "127.0.0.1", 0) as addresses,
        aiohttp.ClientSession(
            f"http://{addresses[0]}",
            headers={"Authorization": "Bearer the-api-token"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session,
    ):
        yield session
