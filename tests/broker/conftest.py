"""Fixtures: a worker in this process, with a real broker, database, gateway and source."""

import asyncio
import contextlib
import os
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
from tests.chaos.tcp_proxy import TcpProxy
from tests.metric_values import metric_value
from tests.preloaded import Command
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS
from worker.app import worker_parts
from worker.broker.envelope import Envelope
from worker.observability.metrics import Metrics
from worker.runtime import serve
from worker.settings import Settings
from worker.web.receiver import Receiver

DELAYS = (1, 2)


class WorkerEnv:
    """One worker, everything it connects to, and access to its queues and its database."""

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
        await self.broker.publish_job(Envelope(job, **history), WAIT_SECONDS)

    async def start_command(self, *arguments, **environment):
        """Start `outlast` with the worker's settings; return the process, whose output is to be read."""
        settings = self.settings
        env = os.environ | {
            "RABBITMQ_URL": settings.rabbitmq_url.get_secret_value(),
            "SUPABASE_URL": settings.supabase_url,
            "SUPABASE_SERVICE_ROLE_KEY": settings.supabase_service_role_key.get_secret_value(),
            "SOURCE_ALLOWLIST": " ".join(settings.source_allowlist),
            "TEMP_DIR": str(settings.temp_dir),
            "RETRY_DELAYS": "1,2",
        }
        return await Command.start(*arguments, env=env | environment)

    async def wait_for_outcome(self, wanted, count=1, queue="file_processing"):
        """Wait until at least `count` deliveries of the queue have ended with this outcome."""
        async with asyncio.timeout(LONG_WAIT_SECONDS):
            while self.outcome_count(wanted, queue) < count:
                await asyncio.sleep(0.02)

    def outcome_count(self, outcome, queue="file_processing"):
        return metric_value(self.metrics.jobs.labels(queue, outcome))

    async def sweep_rows_of_every_age(self):
        """Let the sweep take rows of every age, as after an upgrade from a version without `installed_at`."""
        await self.sql.execute("update outlast_bindings set installed_at = '-infinity'")

    async def pause(self):
        """Stop the worker from consuming."""
        await self.worker.stop(0)

    async def task(self, job):
        row = await self.sql.fetchrow("select * from outlast_tasks where task_id = $1", job.task_id)
        return dict(row)

    async def take_message(self, queue):
        """Remove one message from a queue and return it; None when the queue is empty."""
        message = await (await self.channel.get_queue(queue)).get(fail=False)
        if message is not None:
            await message.ack()
        return message

    async def message_count(self, queue):
        return (await self.channel.declare_queue(queue, passive=True)).declaration_result.message_count

    async def wait_until_running(self):
        """Wait until a task is recorded as running."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not await self.sql.fetchval("select count(*) from outlast_tasks where status = 'running'"):
                await asyncio.sleep(0.01)


@pytest.fixture
async def worker_env(rabbitmq_url, database_url, source, tmp_path, monkeypatch, request):
    """A running worker; `@pytest.mark.settings(...)` changes its settings."""
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
        parts = await stack.enter_async_context(worker_parts(settings, metrics, "test-worker"))
        await parts.worker.start()
        stack.push_async_callback(parts.worker.stop, 0)
        connection = await stack.enter_async_context(await aio_pika.connect(rabbitmq_url))
        sql = await asyncpg.connect(database_url)
        stack.push_async_callback(sql.close)
        yield WorkerEnv(settings, metrics, parts, gateway, sql, await connection.channel(), database_url)
    assert list(tmp_path.glob("outlast-*")) == []


@pytest.fixture
async def proxy(rabbitmq_url):
    """A TCP proxy in front of RabbitMQ, which a test can close, slow down or silence."""
    proxy = TcpProxy(URL(rabbitmq_url).port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def http(worker_env):
    """An HTTP client with the API token, whose base URL is a receiver beside `worker_env`."""
    settings = worker_env.settings.model_copy(update={"api_token": SecretStr("the-api-token")})
    app = Receiver(settings, [], worker_env.broker, worker_env.metrics, worker_env.parts.supabase).app()
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


async def close_all_connections(rabbitmq):
    await rabbitmq.evaluate('rabbit_networking:close_connections(rabbit_networking:connections(), "test").')


@contextlib.asynccontextmanager
async def memory_alarm(rabbitmq):
    """Switch the broker's memory alarm on within the context: it accepts no messages."""
    await rabbitmq.evaluate(memory_limit("0.0000001", alarms="[_ | _]"))
    try:
        yield
    finally:
        await rabbitmq.evaluate(memory_limit("{absolute, 1000000000}", alarms="[]"))


def memory_limit(limit, alarms):
    """Return an Erlang expression that sets the limit and waits until the alarms match: another process sets them."""
    return (
        f"vm_memory_monitor:set_vm_memory_high_watermark({limit}), "
        f"(fun Wait(N) when N > 0 -> case rabbit_alarm:get_alarms() of {alarms} -> ok; "
        f"_ -> timer:sleep(10), Wait(N - 1) end end)({WAIT_SECONDS * 100})."
    )


@pytest.fixture
def delete_for_good(rabbitmq, rabbitmq_url):
    """Return a context in which a queue is deleted and RabbitMQ refuses to declare queues and exchanges again."""
    vhost = URL(rabbitmq_url).path.removeprefix("/")

    @contextlib.asynccontextmanager
    async def deleted(queue):
        await rabbitmq.set_permissions(vhost, configure="^$")
        try:
            await rabbitmq.control("delete_queue", "-p", vhost, queue)
            yield
        finally:
            await rabbitmq.set_permissions(vhost)

    return deleted
