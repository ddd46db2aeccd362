"""The trigger: signs what pg_net sends, speaks only when a row becomes completed, never fails the user's statement."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from schemas.events import SupabaseWebhook
from tests.time_limits import SOON

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "http://127.0.0.1:8080/webhooks/supabase"


async def aim(db: Any) -> Any:
    """Set an address and a secret, as `outlast init` has users set them."""
    for key, value in (("webhook_url", URL), ("webhook_secret", SECRET)):
        await db.run("update public.outlast_settings set value = $2 where key = $1", key, value)
    return db


@pytest.fixture
async def aimed(db: Any) -> Any:
    return await aim(db)


@pytest.fixture
async def own_aimed(own_db: Any) -> Any:
    """For tests that change more than rows."""
    return await aim(own_db)


async def sent(db: Any) -> list[dict[str, Any]]:
    rows = await db.pool.fetch("select * from net.http_request_queue order by id")
    return [dict(row) for row in rows]


async def test_a_completed_row_is_told_of_in_a_signed_webhook(aimed: Any) -> None:
    output = {"images": [{"url": "https://v3.fal.media/ünï 😀.png"}], "seed": 1.50}
    generation = await aimed.generation(status="pending", output=None, prompt='a "quoted" cat')
    assert await sent(aimed) == []
    await aimed.run("update public.generations set status = 'completed', output = $1", output)
    (request,) = await sent(aimed)
    assert (request["method"], request["url"], request["timeout_milliseconds"]) == ("POST", URL, 5000)
    assert request["headers"]["Content-Type"] == "application/json"
    Webhook(SECRET).verify(request["body"], request["headers"])
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request["body"] + b" ", request["headers"])

    assert list(json.loads(request["body"])) == ["type", "table", "record", "schema", "old_record"]
    event = SupabaseWebhook.model_validate_json(request["body"])
    assert (event.type, event.table, event.schema_name) == ("UPDATE", "generations", "public")
    assert event.record is not None
    assert event.old_record is not None
    assert (event.record["id"], event.record["output"]) == (generation, output)
    assert (event.old_record["status"], event.old_record["output"]) == ("pending", None)


async def test_an_insert_that_is_completed_at_once_is_told_of(aimed: Any) -> None:
    await aimed.generation()
    (request,) = await sent(aimed)
    event = SupabaseWebhook.model_validate_json(request["body"])
    assert (event.type, event.old_record) == ("INSERT", None)


async def test_only_becoming_completed_or_another_output_is_told_of(aimed: Any) -> None:
    await aimed.generation(status="pending")
    quiet = [
        "prompt = 'x'",
        "status = 'running'",
        "output = '{}'",
    ]
    for change in quiet:
        await aimed.run(f"update public.generations set {change}")  # noqa: S608 - fixed words
    assert await sent(aimed) == []
    loud = ["status = 'completed'", """output = '{"images": []}'"""]
    for count, change in enumerate(loud, 1):
        for _ in range(2):  # the same again is no news
            await aimed.run(f"update public.generations set {change}")  # noqa: S608 - fixed words
        assert len(await sent(aimed)) == count
    await aimed.run("update public.generations set prompt = 'y', media = '[]', media_status = 'failed'")
    assert len(await sent(aimed)) == len(loud)


async def test_our_own_updates_do_not_trigger_us(aimed: Any, make_job: Callable[..., Any]) -> None:
    generation = await aimed.generation()
    assert await aimed.attempt(make_job(generation, ["a", "b"]), stored=["a"], failed=["b"]) == "partial"
    assert (await aimed.media(generation))[1] == "partial"
    assert len(await sent(aimed)) == 1


async def test_every_row_of_a_bulk_insert_is_told_of_by_its_own_name(aimed: Any) -> None:
    await aimed.run(
        "insert into public.generations (status, output) select 'completed', '{}' from generate_series(1, 50)"
    )
    requests = await sent(aimed)
    assert len({request["headers"]["webhook-id"] for request in requests}) == 50


async def test_a_rolled_back_statement_sends_nothing(aimed: Any) -> None:
    async with aimed.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("insert into public.generations (status, output) values ('completed', '{}')")
        await transaction.rollback()
    assert await sent(aimed) == []


@pytest.mark.parametrize("role", ["authenticated", "service_role"])
async def test_it_signs_whoever_writes_the_row(own_aimed: Any, role: str) -> None:
    user = str(uuid4())
    await own_aimed.run(
        "create policy w on public.generations to authenticated using (user_id = auth.uid()) with check (true)"
    )
    async with own_aimed.role(role, user) as connection:
        sql = "insert into public.generations (user_id, status, output) values ($1, 'completed', '{}')"
        await connection.execute(sql, user)
    (request,) = await sent(own_aimed)
    Webhook(SECRET).verify(request["body"], request["headers"])


BREAKAGES = [
    "drop schema net cascade",
    "drop table public.outlast_settings cascade",
    "drop function public.outlast_sign(text, text)",
    "drop extension pgcrypto cascade",
    "delete from public.outlast_settings",
    "update public.outlast_settings set value = null where key = 'webhook_url'",
    "update public.outlast_settings set value = '' where key = 'webhook_secret'",
    "update public.outlast_settings set value = null where key = 'webhook_secret'",
    "update public.outlast_settings set value = 'garbage' where key = 'webhook_secret'",
    "update public.outlast_settings set value = 'whsec_A' where key = 'webhook_secret'",
    "update public.outlast_settings set value = 'soon' where key = 'webhook_timeout_ms'",
    "alter table net.http_request_queue add constraint no check (false)",
]


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_it_never_fails_the_users_own_statement_and_never_sends_unsigned(own_aimed: Any, breakage: str) -> None:
    await own_aimed.run(breakage)
    warnings: asyncio.Queue[str] = asyncio.Queue()

    def listen(_: object, message: Any) -> None:
        warnings.put_nowait(f"{message.severity}: {message.message}")

    async with own_aimed.pool.acquire() as connection:
        connection.add_log_listener(listen)
        sql = "insert into public.generations (status, output) values ('completed', '{}')"
        assert await connection.execute(sql) == "INSERT 0 1"
        async with asyncio.timeout(SOON):
            warning = await warnings.get()
        connection.remove_log_listener(listen)
    assert await own_aimed.value("select count(*) from public.generations") == 1
    assert warning.startswith("WARNING: outlast: ")
    assert SECRET.removeprefix("whsec_") not in warning
    if not breakage.startswith("drop schema net"):
        assert await sent(own_aimed) == []


async def test_the_secret_in_vault_comes_first(own_aimed: Any) -> None:
    other = "whsec_c2VjcmV0IG9mIHRoZSB2YXVsdCwgMzIgYnl0ZXMh"
    await own_aimed.run("create schema vault")
    await own_aimed.run("create table vault.decrypted_secrets (name text, decrypted_secret text)")
    await own_aimed.run("insert into vault.decrypted_secrets values ('outlast_webhook_secret', $1)", other)
    await own_aimed.generation()
    (request,) = await sent(own_aimed)
    Webhook(other).verify(request["body"], request["headers"])


async def test_a_text_output_column_works(own_aimed: Any) -> None:
    await own_aimed.run("create table public.renders (like public.generations including all)")
    await own_aimed.run("alter table public.renders alter column output type text using output::text")
    await own_aimed.install(p_table="renders")
    await own_aimed.run("insert into public.renders (status, output) values ('completed', '{\"url\": 1}')")
    await own_aimed.run("update public.renders set output = 'https://v3.fal.media/a.png'")
    bodies = [json.loads(request["body"]) for request in await sent(own_aimed)]
    assert [body["record"]["output"] for body in bodies] == ['{"url": 1}', "https://v3.fal.media/a.png"]
