"""FAL's webhooks through receiver and worker: they complete rows, and are passed on to the application."""

import asyncio
import json
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from deploy.local.fal_queue import KEY
from handlers.sources.fal import FalSource
from tests.time_limits import LONG_WAIT_SECONDS
from worker.dead_letters.replay import unchanged
from worker.runtime import serve
from worker.web.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNATURE = {f"X-Fal-Webhook-{part}": part for part in ("Request-Id", "User-Id", "Timestamp", "Signature")}


class Application:
    """The application's handler of FAL's webhooks. It answers 500 as often as `failures` says."""

    def __init__(self):
        self.requests, self.failures = [], 0

    async def handle(self, request):
        self.requests.append((request.rel_url.raw_query_string, request.headers.copy(), await request.read()))
        self.failures -= 1
        return web.Response(status=500 if self.failures >= 0 else 204)

    def verified(self):
        """Return the accepted bodies by webhook id, with their signatures verified."""
        return {
            headers["webhook-id"]: Webhook(SECRET).verify(body, dict(headers)) for _, headers, body in self.requests
        }


class TrustingSource(FalSource):
    """Accepts every signature; tests/contracts/test_sources.py tests them."""

    def __init__(self):
        super().__init__(None)

    async def keep_ready(self):
        pass

    def check_headers(self, _headers):
        return True

    async def verify(self, headers, body):
        pass


@pytest.fixture
async def application(request, source):
    made = Application()
    app = web.Application()
    app.router.add_post("/hooks/fal", made.handle)
    async with serve(app, "127.0.0.1", 0) as addresses:
        settings = {
            "forward_webhooks": f"http://{addresses[0]}/hooks/fal?key=1",
            "forward_secret": SecretStr(SECRET),
            "fal_queue_url": source.url,
            "fal_key": SecretStr(KEY),
        }
        request.node.add_marker(pytest.mark.settings(**settings))
        yield made


@pytest.fixture
async def fal(application, worker_env):  # noqa: ARG001 - the settings of the application come first
    """Sends a webhook as FAL does; returns status and answer."""
    env = worker_env
    app = Receiver(env.settings, [TrustingSource()], env.broker, env.metrics, env.parts.supabase).app()
    async with serve(app, "127.0.0.1", 0) as addresses, aiohttp.ClientSession(f"http://{addresses[0]}") as session:

        async def send(query="", **body):
            headers = SIGNATURE | {"Content-Type": "application/json"}
            path = f"/webhooks/fal{query}"
            async with session.post(path, data=json.dumps(body).encode(), headers=headers) as response:
                return response.status, await response.json()

        yield send


async def generation(env, request):
    sql = "insert into generations (user_id, request_id, model) values ($1, $2, 'fal-ai/flux') returning id::text"
    return await env.sql.fetchval(sql, uuid4(), request)


async def wait_for(env, generation_id, column, wanted):
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while await env.sql.fetchval(f"select {column} from generations where id::text = $1", generation_id) != wanted:  # noqa: S608 - fixed names
            await asyncio.sleep(0.02)


async def test_fals_webhook_alone_completes_rows_and_is_passed_on(application, worker_env, fal, source):
    env, output = worker_env, {"audio": {"url": f"{source.url}/files/tone.wav"}}
    await env.sql.execute("alter table generations add column error text; notify pgrst, 'reload schema'")
    await env.sql.execute(
        "update outlast_bindings set fal_finishes = true, failed_values = '{failed}', error_column = 'error'"
    )
    requests = ("r-good", "r-bad", "r-late", "r-skipped", None)
    good, bad, late, skipped, named = [await generation(env, request) for request in requests]
    other_host = {"image": "https://elsewhere.example/a.png"}
    source.queue.results["r-late"] = output
    application.failures = 1

    status, _ = await fal(request_id="r-good", status="OK", payload=output)
    assert status == 202
    answer = await fal(request_id="r-bad", status="ERROR", error="out of memory", payload={"detail": []})
    assert answer == (200, {"ignored": "generation_failed"})
    assert (await fal(request_id="r-late", status="OK", payload=None, payload_error="too large"))[0] == 202
    assert (await fal(request_id="r-skipped", status="OK", payload=other_host))[0] == 202
    answer = await fal(f"?generation_id={named}&mine=a%20b", request_id="r-new", status="OK", payload={"text": "x"})
    assert answer == (200, {"ignored": "no_files"})

    await wait_for(env, good, "media_status", "completed")
    await wait_for(env, bad, "error", "out of memory")
    await wait_for(env, late, "media_status", "completed")
    await wait_for(env, skipped, "media_status", "completed")
    await wait_for(env, named, "status", "completed")
    rows = await env.sql.fetch("select request_id, status, output, jsonb_array_length(media) as files from generations")
    assert {
        row["request_id"]: (row["status"], row["output"] and json.loads(row["output"]), row["files"]) for row in rows
    } == {
        "r-good": ("completed", output, 1),
        "r-bad": ("failed", None, None),
        "r-late": ("completed", output, 1),
        "r-skipped": ("completed", other_host, 1),
        "r-new": ("completed", {"text": "x"}, None),
    }

    # The application has got each webhook, signed, with its own query and FAL's headers. It refused the first.
    await env.wait_for_outcome("completed", 5, "webhooks")
    bodies = application.verified()
    assert sorted(body["request_id"] for body in bodies.values()) == ["r-bad", "r-good", "r-late", "r-new", "r-skipped"]
    assert (len(application.requests), env.outcome_count("retried", "webhooks")) == (6, 1)
    queries = {body["request_id"]: query for query, _, text in application.requests if (body := json.loads(text))}
    assert queries["r-new"] == f"key=1&generation_id={named}&mine=a+b"
    assert all(headers["X-Fal-Webhook-Signature"] == "Signature" for _, headers, _ in application.requests)
    assert await env.message_count("outlast.dead") == 0


async def test_a_webhook_that_the_application_refuses_becomes_a_dead_letter(application, worker_env, fal):
    application.failures = 3
    await fal(request_id="r-unwanted", status="ERROR", error="x")
    await worker_env.wait_for_outcome("failed", 1, "webhooks")
    letter = await worker_env.take_message("outlast.dead")
    assert (letter.type, letter.routing_key) == ("outlast.forward.v1", "webhooks")
    assert letter.headers["x-outlast-error-code"] == "not_forwarded"
    assert json.loads(letter.body)["request_id"] == "r-unwanted"
    replayed = unchanged(letter, 1)
    assert replayed.headers["x-outlast-x-fal-webhook-signature"] == "Signature"
    assert "x-outlast-error" not in replayed.headers
    assert len({headers["webhook-id"] for _, headers, _ in application.requests}) == 1
