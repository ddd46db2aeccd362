"""Webhooks with large outputs that wait for RabbitMQ keep only their jobs in memory."""

import asyncio
import gc
import json

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from handlers.sources import SupabaseSource
from schemas.events import CompletedGeneration
from tests.hostile.attacked_receiver import EVENT, ROW, SECRET
from tests.time_limits import WAIT_SECONDS
from worker.observability.metrics import Metrics
from worker.settings import Settings
from worker.web.receiver import Receiver


class WaitingBroker:
    """Confirms a job only when the test says so."""

    def __init__(self):
        self.waiting, self.go_on = asyncio.Event(), asyncio.Event()

    def problem(self):
        return None

    async def publish_job(self, _envelope, _limit):
        self.waiting.set()
        await self.go_on.wait()


async def test_an_output_is_not_kept_while_its_jobs_are_published():
    settings = Settings(supabase_webhook_secrets=SECRET, waiting_files_per_user=0)
    broker = WaitingBroker()
    source = SupabaseSource.from_settings(settings)
    app: web.Application = Receiver(settings, [source], broker, Metrics("1")).app()
    output = {"images": ROW["output"]["images"], "other": [[]] * 25_000}
    body = json.dumps(EVENT | {"record": ROW | {"output": output}})
    headers = {"Content-Type": "application/json", "x-webhook-secret": SECRET}
    async with TestClient(TestServer(app)) as client:
        sending = asyncio.create_task(client.post("/webhooks/supabase", data=body, headers=headers))
        await asyncio.wait_for(broker.waiting.wait(), WAIT_SECONDS)
        async with asyncio.timeout(WAIT_SECONDS):  # the thread that planned it may hold it a moment longer
            while any(isinstance(found, CompletedGeneration) and found.output for found in gc.get_objects()):
                await asyncio.sleep(0.01)
        broker.go_on.set()
        assert (await sending).status == 202
