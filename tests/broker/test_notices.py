"""Notices: from a generation that ends, through the broker, to an address that checks the signature."""

import base64
import json

import pytest
from aiohttp import web
from pydantic import SecretStr
from standardwebhooks import Webhook

from handlers.database.notice_records import NoticeRecords
from schemas.jobs import JOB_TYPE
from tests.time_limits import WAIT_SECONDS
from worker.broker import topology
from worker.broker.envelope import build_message
from worker.dead_letters.replay import unchanged
from worker.notices.events import Notices
from worker.runtime import serve

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
CONSOLE = "https://outlast.example.com/console"


class Address:
    """An HTTP address that refuses the first `failures` notices."""

    def __init__(self):
        self.failures = 0
        self.requests = []

    async def handle(self, request):
        self.requests.append((dict(request.headers), await request.text()))
        self.failures -= 1
        return web.Response(status=503 if self.failures >= 0 else 204)

    def verified(self):
        """Return the notices by their ids."""
        hook = Webhook(SECRET)
        return {headers["webhook-id"]: hook.verify(text, headers) for headers, text in self.requests}


@pytest.fixture
async def address(request):
    made = Address()
    app = web.Application()
    app.router.add_post("/notices", made.handle)
    async with serve(app, "127.0.0.1", 0) as addresses:
        url = f"http://{addresses[0]}/notices"
        changed = {"notify_urls": (SecretStr(url),), "notify_secret": SecretStr(SECRET), "console_url": CONSOLE}
        request.node.add_marker(pytest.mark.settings(**changed))
        yield made


async def test_a_generation_and_its_dead_letters_are_told_and_a_refused_notice_becomes_a_dead_letter(
    address, worker_env, source
):
    env = worker_env
    notices = Notices(env.settings, NoticeRecords(env.parts.supabase), env.broker)
    await notices.publish_ended()
    await notices.publish_dead_letters()
    await env.broker.publish(topology.WORK, "file_processing", build_message(b"?", "m", {}, JOB_TYPE), WAIT_SECONDS)
    await env.wait_for_outcome("undecodable")
    job = env.job(source.file_url("photo.png"), source.file_url("photo.png", status=410))
    await env.send(job)
    await env.wait_for_outcome("partial")
    address.failures = 1
    await notices.publish_ended()
    await env.sql.execute("update outlast_tasks set finished_at = finished_at - interval '5 seconds'")
    await env.sql.execute("update outlast_undecodable set second = second - interval '5 seconds'")
    await env.sql.execute(
        "update outlast_settings set value = (now() - interval '1 hour')::text where key = 'digest_after'"
    )
    await env.wait_for_outcome("completed", 1, "webhooks")
    (ended,) = address.verified().values()
    assert len(address.requests) == 2
    assert ended["type"] == "generation.partial"
    told = {name: ended["data"][name] for name in ("generation_id", "status", "total", "stored", "console_url")}
    assert told == {
        "generation_id": job.generation_id,
        "status": "partial",
        "total": 2,
        "stored": 1,
        "console_url": f"{CONSOLE}/generations/{job.generation_id}?binding=generations",
    }
    assert [file["code"] for file in ended["data"]["failed"]] == ["source_gone"]

    for _ in range(2):
        await env.take_message("outlast.dead")
    address.failures = 3
    await notices.publish_dead_letters()
    await env.wait_for_outcome("failed", 1, "webhooks")
    letter = await env.take_message("outlast.dead")
    assert (letter.type, letter.routing_key) == ("outlast.notice.v1", "webhooks")
    assert letter.headers["x-outlast-error-code"] == "not_notified"
    assert "127.0.0.1:" not in str(letter.headers)
    data = json.loads(letter.body)["data"]
    assert data["total"] == 2
    assert {group["code"] for group in data["groups"]} == {"source_gone", "undecodable"}
    await notices.publish_dead_letters()
    assert await env.message_count("outlast.webhooks") == 0

    await env.broker.publish(topology.WORK, "webhooks", unchanged(letter, 1), WAIT_SECONDS)  # as a replay does
    await env.wait_for_outcome("completed", 2, "webhooks")
    assert len(address.verified()) == 2
