"""A stack with debug logging and many failures: no secret and no signed query appears in any output."""

import asyncio
import json
from uuid import uuid4

import aio_pika
import aiohttp
import asyncpg
import pytest
from yarl import URL

from deploy.local.project import Project
from deploy.local.stack import Stack
from tests.time_limits import LONG_WAIT_SECONDS

SECRET_MARK = "hush-hush-"
ENVIRONMENT = {
    "LOG_LEVEL": "DEBUG",
    "LOG_LEVELS": "httpx=DEBUG httpcore=DEBUG hpack=DEBUG aio_pika=DEBUG aiormq=DEBUG aiohttp.access=DEBUG",
    "LOG_FORMAT": "json",
    "RETRY_DELAYS": "1",
    "MAX_ATTEMPTS": "2",
    "MAX_FILE_SIZE_MB": "1",
    "SUPABASE_WEBHOOK_SECRETS": f"{SECRET_MARK}webhook",
    "FAL_KEY": f"fal-key-id:{SECRET_MARK}fal",
}
FAULTS = (
    "status=404",
    "status=503",
    "status=403",
    "truncate=1000",
    "fail_first=1",
    "wrong_type=text/html",
    "length=no",
)
ENDED = ("completed", "partial", "failed")


def signed(url, number):
    return f"{url}{'&' if '?' in url else '?'}X-Goog-Signature={SECRET_MARK}query-{number}&token={SECRET_MARK}token"


def urls(stack):
    base, names = f"{stack.source.url}/files", [sample.name for sample in stack.samples]
    found = [f"{base}/{name}?{fault}" for name, fault in zip(names, FAULTS, strict=False)]
    found += [f"{base}/{names[0]}", f"{stack.source.url}/endless", f"{base}/a.png?redirect=https%3A%2F%2F10.0.0.1%2Fx"]
    return [signed(url, number) for number, url in enumerate(found)] + [
        f"https://user:{SECRET_MARK}password@fal.media/a.png?{SECRET_MARK}query",
        signed("https://127.0.0.1/inside.png", 98),
    ]


async def complete(project, output):
    row = {"id": str(uuid4()), "user_id": str(uuid4()), "status": "processing", "output": None}
    await project.insert("generations", row)
    await project.update("generations", f"id=eq.{row['id']}", {"status": "completed", "output": output})


async def send_refused_requests(stack, session):
    """Send requests that are refused and contain what must not be repeated."""
    hooks, tasks = f"{stack.receiver_url}/webhooks", f"{stack.receiver_url}/tasks"
    body = {
        "type": "UPDATE",
        "table": "generations",
        "schema": "public",
        "record": {"output": signed("https://x/", 99)},
    }
    for path, headers in (
        (f"{hooks}/supabase", {"x-webhook-secret": f"{SECRET_MARK}wrong"}),
        (f"{hooks}/supabase", {"x-webhook-secret": f"{SECRET_MARK}webhook"}),
        (f"{hooks}/fal", {"X-Fal-Webhook-Signature": f"{SECRET_MARK}wrong"}),
        (f"{hooks}/supabase?token={SECRET_MARK}query", {"Content-Type": "text/plain"}),
        (tasks, {"Authorization": f"Bearer {SECRET_MARK}wrong"}),
        (tasks, {"Authorization": f"Bearer {stack.endpoints.api_token}"}),
    ):
        async with session.post(path, json=None, data=json.dumps(body), headers=headers) as response:
            assert response.status >= 400 or path.endswith("supabase")


async def publish_undecodable(stack):
    async with await aio_pika.connect(stack.endpoints.rabbitmq_url) as connection:
        exchange = await (await connection.channel()).get_exchange("outlast")
        body = json.dumps({"files": signed("https://x/", 97)}).encode()
        await exchange.publish(aio_pika.Message(body, type="outlast.job.v1"), "file_processing")


async def dead_letters(stack):
    """Return all dead letters, and leave them in the queue."""
    async with await aio_pika.connect(stack.endpoints.rabbitmq_url) as connection:
        queue = await (await connection.channel()).get_queue("outlast.dead")
        found = []
        while (message := await queue.get(fail=False)) is not None:
            found.append(message)
        return found


async def wait_until_ended(project, count):
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while True:
            tasks = await project.select("outlast_tasks", "select=status")
            if sum(task["status"] in ENDED for task in tasks) >= count:
                return
            await asyncio.sleep(0.1)


async def list_dead_letters(stack, session, enough):
    """Return the dead letters as the API shows them, once `enough` of them are there."""
    bearer = {"Authorization": f"Bearer {stack.endpoints.api_token}"}
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while True:
            async with session.get(f"{stack.receiver_url}/dead-letters", headers=bearer) as response:
                shown = await response.text()
            if enough(json.loads(shown)["items"]):
                return shown
            await asyncio.sleep(0.1)


async def all_rows(stack):
    """Return all rows of our tables as text, except outlast_settings, which stores the webhook secret."""
    connection = await asyncpg.connect(stack.endpoints.database_url)
    try:
        names = await connection.fetch(
            "select tablename from pg_tables where tablename like 'outlast_%' and tablename <> 'outlast_settings'"
        )
        texts = [await connection.fetch(f"select to_jsonb(t)::text as line from {name[0]} t") for name in names]  # noqa: S608 - our own table names
        media = await connection.fetch("select media::text as line from generations where media is not null")
    finally:
        await connection.close()
    return "\n".join(row["line"] for found in [*texts, media] for row in found)


@pytest.fixture
async def debug_stack(tmp_path, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    async with Stack(tmp_path / "loud", workers=1) as stack:
        yield stack


async def test_no_secret_or_signed_query_appears_in_any_output(debug_stack):
    bearer = {"Authorization": f"Bearer {debug_stack.endpoints.api_token}"}
    async with Project(debug_stack.endpoints) as project, aiohttp.ClientSession() as session:
        wanted = urls(debug_stack)
        for url in wanted:
            await complete(project, {"images": [{"url": url}]})
        await complete(project, {"images": [{"url": url} for url in (wanted[0], wanted[6])]})
        await complete(project, {"images": [{"url": f"data:image/png;base64,{SECRET_MARK.encode().hex()}"}]})
        await send_refused_requests(debug_stack, session)
        await publish_undecodable(debug_stack)
        await wait_until_ended(project, len(wanted) + 2)
        dead = json.loads(await list_dead_letters(debug_stack, session, lambda items: len(items) >= len(FAULTS)))[
            "items"
        ]
        async with session.post(f"{debug_stack.receiver_url}/dead-letters/replay", headers=bearer) as response:
            assert response.status == 200, await response.text()
        tasks = {
            item["task_id"] for item in dead if item["task_id"] and item["code"] != "source_gone"
        }  # these cannot be refreshed and stay
        shown = await list_dead_letters(
            debug_stack, session, lambda items: tasks <= {item["task_id"] for item in items if item["replays"] == 1}
        )
        metrics = ""
        for url in (*debug_stack.endpoints.worker_metrics_urls, f"{debug_stack.receiver_url}/metrics"):
            async with session.get(url) as response:
                metrics += await response.text()
    messages = await dead_letters(debug_stack)
    logs = "".join(path.read_text() for path in (debug_stack.data_dir / "log").glob("*.log"))
    text_by_place = {
        "logs": logs,
        "metrics": metrics,
        "dead letters": " ".join(str(dict(letter.headers)) for letter in messages),
        "dead letters as shown": shown,
        "rows": await all_rows(debug_stack),
    }
    ends = debug_stack.endpoints
    secrets = {
        SECRET_MARK,
        f"{SECRET_MARK}webhook",
        *(ends.service_role_key, ends.webhook_secret, ends.jwt_secret, ends.api_token, ends.console_token),
        ends.webhook_secret.removeprefix("whsec_"),
        URL(ends.rabbitmq_url).password,
    }
    assert [
        (place, secret) for place, text in text_by_place.items() for secret in secrets if secret and secret in text
    ] == []
    bodies = b" ".join(letter.body for letter in messages).decode()
    assert [secret for secret in secrets - {SECRET_MARK} if secret and secret in bodies] == []
    assert len(messages) >= 5
    check_logs(debug_stack)


def check_logs(debug_stack):
    """Assert that every log line is JSON, and that the intended failures happened."""
    lines = []
    for path in (debug_stack.data_dir / "log").glob("[rw]*er*.log"):
        lines += [parse_line(line) for line in path.read_text().splitlines()]
    attempts = [line for line in lines if line["event"] == "attempt ended" and line.get("task_id")]
    assert len(attempts) >= len(FAULTS) * 2
    assert len({(line["task_id"], line["replays"], line["attempt"]) for line in attempts}) == len(attempts)
    assert {"completed", "retried", "failed", "partial"} <= {line["outcome"] for line in attempts}
    codes = {code for line in attempts for code in line["codes"]}
    assert {"source_gone", "source_unavailable", "source_forbidden", "size_exceeded", "type_skipped"} <= codes
    assert {line["level"] for line in lines} == {"debug", "info", "warning", "error"}
    assert {"httpx", "hpack", "worker.consume.delivery"} & {line["logger"] for line in lines}


def parse_line(line):
    try:
        return json.loads(line)
    except ValueError as error:
        raise AssertionError(line) from error
