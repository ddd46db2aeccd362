"""A receiver and workers in this process, and a sender of webhooks that measures acceptance and completion."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import asyncpg
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from handlers.sources.supabase import SupabaseSource
from worker.app import worker_parts
from worker.broker.connection import Broker
from worker.observability.metrics import Metrics
from worker.runtime import serve
from worker.settings import Settings
from worker.web.receiver import Receiver

SECRET = "a secret of sixteen characters"
LIMIT_SECONDS = 120


class WebhookLoad:
    """Sends webhooks until each is accepted, and records when its task was accepted and completed."""

    def __init__(self, session: aiohttp.ClientSession, url: str, source_url: str, sql: asyncpg.Pool) -> None:
        self.session, self.url, self.source_url, self.sql = session, url, source_url, sql
        self.accepted: dict[str, float] = {}
        self.refused: list[float] = []
        self.completed: dict[str, float] = {}

    async def send(self, numbers: range, pause: float = 0.0) -> None:
        left = iter(numbers)
        await asyncio.gather(*(self._sender(left, pause) for _ in range(4)))

    async def _sender(self, left: Iterator[int], pause: float) -> None:
        for number in left:
            await asyncio.sleep(pause)
            output = {"images": [{"url": f"{self.source_url}/files/tone.wav?n={number}"}]}
            row = {"id": str(number), "status": "completed", "user_id": "u", "output": output}
            event = {"type": "UPDATE", "table": "generations", "schema": "public", "record": row, "old_record": None}
            deadline = time.monotonic() + LIMIT_SECONDS
            while time.monotonic() < deadline:
                async with self.session.post(
                    f"{self.url}/webhooks/supabase", data=json.dumps(event), headers={"x-webhook-secret": SECRET}
                ) as response:
                    if response.status == 202:
                        (task_id,) = (await response.json())["task_ids"]
                        self.accepted[task_id] = time.monotonic()
                        break
                    assert response.status == 503
                    self.refused.append(time.monotonic())
                await asyncio.sleep(0.2)
            else:
                raise AssertionError(f"webhook {number} was answered 503 for {LIMIT_SECONDS} s")

    async def watch(self) -> None:
        while True:
            rows = await self.sql.fetch("select task_id::text from outlast_tasks where status = 'completed'")
            for row in rows:
                self.completed.setdefault(row["task_id"], time.monotonic())
            await asyncio.sleep(0.1)

    async def wait_until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not condition():
                await asyncio.sleep(0.02)

    def completed_after(self, since: float) -> list[float]:
        """Return when tasks that were accepted after `since` were completed."""
        return [seen for task, seen in self.completed.items() if self.accepted.get(task, 0) > since]


@contextlib.asynccontextmanager
async def run_receiver_and_workers(
    rabbitmq_url: str, database_url: str, source_url: str, folder: Path, workers: int = 1
) -> AsyncIterator[WebhookLoad]:
    """Run a receiver and `workers` workers; yield the load generator."""
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(Gateway(database_url=database_url, storage_dir=folder / "objects"))
        await _make_bucket(gateway)
        settings = Settings.load(
            _env_file=None,
            rabbitmq_url=SecretStr(rabbitmq_url),
            retry_delays=(1, 2),
            supabase_url=gateway.url,
            supabase_service_role_key=SecretStr(gateway.service_role_key),
            supabase_webhook_secrets=(SecretStr(SECRET),),
            source_allowlist=source_url,
            temp_dir=folder,
            worker_concurrency=4,
            codec_processes=1,
        )
        for number in range(workers):
            parts = await stack.enter_async_context(worker_parts(settings, Metrics("test"), f"worker {number}"))
            await parts.worker.start()
            stack.push_async_callback(parts.worker.stop, 0)
        broker = await stack.enter_async_context(Broker(settings, Metrics("test"), "receiver"))
        await broker.wait_ready()
        sources = [SupabaseSource(settings, settings.supabase_webhook_secrets)]
        app = Receiver(settings, sources, broker, Metrics("test")).app()
        addresses = await stack.enter_async_context(serve(app, "127.0.0.1", 0))
        session = await stack.enter_async_context(aiohttp.ClientSession(headers={"Content-Type": "application/json"}))
        sql = await stack.enter_async_context(asyncpg.create_pool(database_url, min_size=1, max_size=2))
        load = WebhookLoad(session, f"http://{addresses[0]}", source_url, sql)
        watching = asyncio.create_task(load.watch())
        try:
            yield load
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _make_bucket(gateway: Gateway) -> None:
    key = gateway.service_role_key
    async with (
        aiohttp.ClientSession(headers={"apikey": key, "Authorization": f"Bearer {key}"}) as session,
        session.post(f"{gateway.url}/storage/v1/bucket", json={"id": "generations", "name": "generations"}),
    ):
        pass
