"""The webhook trigger: signs its requests, sends only completions, and never fails the user's statement."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from schemas.events import SupabaseWebhook
from tests.contracts.postgres.conftest import USER
from tests.time_limits import WAIT_SECONDS

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "http://127.0.0.1:8080/webhooks/supabase"


async def set_webhook(db: Any) -> Any:
    """Set the URL and the secret, as the SQL of `outlast init` does."""
    for key, value in (("webhook_url", URL), ("webhook_secret", SECRET)):
        await db.run("update public.outlast_settings set value = $2 where key = $1", key, value)
    return db


@pytest.fixture
async def db_with_webhook(db: Any) -> Any:
    return await set_webhook(db)


@pytest.fixture
async def own_db_with_webhook(own_db: Any) -> Any:
    """The test's own database, for tests that change more than rows."""
    return await set_webhook(own_db)


async def sent(db: Any) -> list[dict[str, Any]]:
    rows = await db.pool.fetch("select * from net.http_request_queue order by id")
    return [dict(row) for row in rows]


async def test_a_completed_row_sends_a_signed_webhook(db_with_webhook: Any) -> None:
    output = {"images": [{"url": "https://v3.fal.media/ünï 😀.png"}], "seed": 1.50}
    generation = await db_with_webhook.generation(status="pending", output=None, prompt='a "quoted" cat')
    assert await sent(db_with_webhook) == []
    await db_with_webhook.run("update public.generations set status = 'completed', output = $1", output)
    (request,) = await sent(db_with_webhook)
    assert (request["method"], request["url"], request["timeout_milliseconds"]) == ("POST", URL, 5000)
    assert request["headers"]["Content-Type"] == "application/json"
    Webhook(SECRET).verify(request["body"], request["headers"])
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request["body"] + b" ", request["headers"])

    assert list(json.loads(request["body"])) == ["outlast"]
    event = SupabaseWebhook.model_validate_json(request["body"]).outlast
    assert event.timeout_ms == request["timeout_milliseconds"]
    assert (event.v, event.binding, event.generation_id, event.output) == (2, "generations", generation, output)
    assert (event.user_id, event.request_id) == (USER, None)
    assert event.event_at is not None
    assert abs(event.event_at - datetime.now(UTC)) < timedelta(seconds=WAIT_SECONDS)


async def test_an_insert_of_a_completed_row_sends_a_webhook(db_with_webhook: Any) -> None:
    generation = await db_with_webhook.generation(request_id="r1")
    (request,) = await sent(db_with_webhook)
    event = SupabaseWebhook.model_validate_json(request["body"]).outlast
    assert (event.generation_id, event.request_id) == (generation, "r1")


async def test_only_completion_or_a_changed_output_sends_a_webhook(db_with_webhook: Any) -> None:
    await db_with_webhook.generation(status="pending")
    without_webhook = [
        "prompt = 'x'",
        "status = 'running'",
        "output = '{}'",
    ]
    for change in without_webhook:
        await db_with_webhook.run(f"update public.generations set {change}")  # noqa: S608 - fixed strings
    assert await sent(db_with_webhook) == []
    with_webhook = ["status = 'completed'", """output = '{"images": []}'"""]
    for count, change in enumerate(with_webhook, 1):
        for _ in range(2):  # the second one changes nothing
            await db_with_webhook.run(f"update public.generations set {change}")  # noqa: S608 - fixed strings
        assert len(await sent(db_with_webhook)) == count
    await db_with_webhook.run("update public.generations set prompt = 'y', media = '[]', media_status = 'failed'")
    assert len(await sent(db_with_webhook)) == len(with_webhook)


async def test_outlasts_own_updates_send_no_webhook(db_with_webhook: Any, make_job: Callable[..., Any]) -> None:
    generation = await db_with_webhook.generation()
    assert await db_with_webhook.attempt(make_job(generation, ["a", "b"]), stored=["a"], failed=["b"]) == "partial"
    assert (await db_with_webhook.media(generation))[1] == "partial"
    assert len(await sent(db_with_webhook)) == 1


COMPLETES_ANOTHER_ROW = """
create function public.complete_next() returns trigger language plpgsql as $$ begin
  update public.generations set status = 'completed' where prompt = 'next' and new.media_status = 'completed';
  return null;
end $$;
create trigger complete_next after update on public.generations for each row
  when (new.media_status is distinct from old.media_status) execute function public.complete_next();
"""


async def test_a_row_that_a_trigger_completes_during_outlasts_own_update_sends_a_webhook(
    own_db_with_webhook: Any, make_job: Callable[..., Any]
) -> None:
    db = own_db_with_webhook
    await db.run(COMPLETES_ANOTHER_ROW)
    following = await db.generation(status="pending", prompt="next")
    generation = await db.generation()
    assert await db.attempt(make_job(generation, ["a"]), stored=["a"]) == "completed"
    events = [SupabaseWebhook.model_validate_json(request["body"]).outlast for request in await sent(db)]
    assert [event.generation_id for event in events] == [generation, following]


async def test_every_row_of_a_bulk_insert_sends_a_webhook_with_its_own_id(db_with_webhook: Any) -> None:
    await db_with_webhook.run(
        "insert into public.generations (status, output) select 'completed', '{}' from generate_series(1, 50)"
    )
    requests = await sent(db_with_webhook)
    assert len({request["headers"]["webhook-id"] for request in requests}) == 50


async def test_a_rolled_back_statement_sends_nothing(db_with_webhook: Any) -> None:
    async with db_with_webhook.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("insert into public.generations (status, output) values ('completed', '{}')")
        await transaction.rollback()
    assert await sent(db_with_webhook) == []


@pytest.mark.parametrize("role", ["authenticated", "service_role"])
async def test_webhooks_are_signed_for_every_role(own_db_with_webhook: Any, role: str) -> None:
    user = str(uuid4())
    await own_db_with_webhook.run(
        "create policy w on public.generations to authenticated using (user_id = auth.uid()) with check (true)"
    )
    async with own_db_with_webhook.role(role, user) as connection:
        sql = "insert into public.generations (user_id, status, output) values ($1, 'completed', '{}')"
        await connection.execute(sql, user)
    (request,) = await sent(own_db_with_webhook)
    assert Webhook(SECRET).verify(request["body"], request["headers"])["outlast"]["user_id"] == user


BREAKAGES = [
    "set role none; drop schema net cascade",
    "drop table public.outlast_settings cascade",
    "drop table public.outlast_bindings cascade",
    "delete from public.outlast_bindings",
    "drop function public.outlast_sign(text, text)",
    "set role none; drop extension pgcrypto cascade",
    "delete from public.outlast_settings",
    "update public.outlast_settings set value = null where key = 'webhook_url'",
    "update public.outlast_settings set value = '' where key = 'webhook_secret'",
    "update public.outlast_settings set value = null where key = 'webhook_secret'",
    "update public.outlast_settings set value = 'garbage' where key = 'webhook_secret'",
    "update public.outlast_settings set value = 'whsec_A' where key = 'webhook_secret'",
    "update public.outlast_settings set value = 'soon' where key = 'webhook_timeout_ms'",
    "set role none; alter table net.http_request_queue add constraint no check (false)",
]


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_broken_installation_warns_and_neither_fails_the_statement_nor_sends_unsigned(
    own_db_with_webhook: Any, breakage: str
) -> None:
    await own_db_with_webhook.run(breakage)
    warnings: asyncio.Queue[str] = asyncio.Queue()

    def listen(_: object, message: Any) -> None:
        warnings.put_nowait(f"{message.severity}: {message.message}")

    async with own_db_with_webhook.pool.acquire() as connection:
        connection.add_log_listener(listen)
        sql = "insert into public.generations (status, output) values ('completed', '{}')"
        assert await connection.execute(sql) == "INSERT 0 1"
        async with asyncio.timeout(WAIT_SECONDS):
            warning = await warnings.get()
        connection.remove_log_listener(listen)
    assert await own_db_with_webhook.value("select count(*) from public.generations") == 1
    assert warning.startswith("WARNING: outlast: ")
    assert SECRET.removeprefix("whsec_") not in warning
    if "drop schema net" not in breakage:
        assert await sent(own_db_with_webhook) == []


async def test_the_secret_in_vault_takes_precedence(own_db_with_webhook: Any) -> None:
    other = "whsec_c2VjcmV0IG9mIHRoZSB2YXVsdCwgMzIgYnl0ZXMh"
    await own_db_with_webhook.run("create schema vault")
    await own_db_with_webhook.run("create table vault.decrypted_secrets (name text, decrypted_secret text)")
    await own_db_with_webhook.run("insert into vault.decrypted_secrets values ('outlast_webhook_secret', $1)", other)
    await own_db_with_webhook.generation()
    (request,) = await sent(own_db_with_webhook)
    assert Webhook(other).verify(request["body"], request["headers"])["outlast"]["v"] == 2


async def test_a_text_output_column_works(own_db_with_webhook: Any) -> None:
    await own_db_with_webhook.run("create table public.renders (like public.generations including all)")
    await own_db_with_webhook.run("alter table public.renders alter column output type text using output::text")
    await own_db_with_webhook.install(p_table="renders")
    await own_db_with_webhook.run("insert into public.renders (status, output) values ('completed', '{\"url\": 1}')")
    await own_db_with_webhook.run("update public.renders set output = 'https://v3.fal.media/a.png'")
    bodies = [json.loads(request["body"]) for request in await sent(own_db_with_webhook)]
    assert [body["outlast"]["outputs"][0]["value"] for body in bodies] == ['{"url": 1}', "https://v3.fal.media/a.png"]
