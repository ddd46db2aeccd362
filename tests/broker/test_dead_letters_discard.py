"""Discard moves dead letters to the archive; a message leaves the queue only after it was archived."""

import base64
import json

import asyncpg
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from handlers.errors import DatabaseUnavailableError, RowRejectedError
from schemas.dead_letters import DeadLetterFilter
from tests.broker.dead_letter_vhost import dead_letter_vhost
from worker.dead_letters.service import DeadLetterService, NoArchiveError


@pytest.fixture
async def vhost(rabbitmq_url, database_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with (
        dead_letter_vhost(rabbitmq_url) as found,
        Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as gateway,
    ):
        found.gateway, found.sql = gateway, await asyncpg.connect(database_url)
        found.settings = found.settings.model_copy(
            update={
                "supabase_url": gateway.url,
                "supabase_service_role_key": SecretStr(gateway.service_role_key),
                "dead_archive_days": 2,
            }
        )
        yield found
        await found.sql.close()


async def discard(vhost, settings=None, **filters):
    service = DeadLetterService(settings or vhost.settings, "tester")
    async with service.batch("discard", await service.find(DeadLetterFilter.parse(filters))) as batch:
        return await batch.run()


async def test_discarded_dead_letters_are_archived_for_the_configured_days(vhost):
    messages = [
        await vhost.dead_letter(vhost.job(f"https://v3.fal.media/{n}.png", user_id="a\x00b"), minutes=n, replays=n)
        for n in range(40)
    ]
    await vhost.dead_letter_raw(b"\xff\x00 no job", "odd\x00type")
    await vhost.dead_letter(vhost.job("https://v3.fal.media/kept.png"), "size_exceeded")
    items, _ = await DeadLetterService(vhost.settings, "test").items(DeadLetterFilter(code="corrupted"))
    outcome = await discard(vhost, code="corrupted")
    assert (outcome.matched, outcome.done, outcome.kept) == (40, 40, ())
    assert (await discard(vhost, code="undecodable")).done == 1
    assert await vhost.count() == 1
    assert await vhost.drain() == []
    rows = await vhost.sql.fetch("select *, gone_after - discarded_at as stays from outlast_dead_archive")
    bodies = {base64.b64decode(row["body"]) for row in rows}
    assert bodies == {message.body for message in messages} | {b"\xff\x00 no job"}
    assert {row["letter_id"] for row in rows} >= {str(item.id) for item in items}
    assert {row["discarded_by"] for row in rows} == {"tester"}
    assert {round(row["stays"].total_seconds()) for row in rows} == {2 * 24 * 3600}
    assert {json.loads(row["item"])["code"] for row in rows} == {"corrupted", "undecodable"}


async def test_each_message_of_an_item_is_archived_once_also_when_discarded_again(vhost):
    job = vhost.job("https://v3.fal.media/a.png")
    for minutes in (1, 1, 2):
        await vhost.dead_letter(job, minutes=minutes)
    assert (await discard(vhost)).done == 1
    assert await vhost.count() == 0
    assert await vhost.sql.fetchval("select count(*) from outlast_dead_archive") == 2
    await vhost.dead_letter(job, minutes=1)
    assert (await discard(vhost)).done == 1
    assert await vhost.sql.fetchval("select count(*) from outlast_dead_archive") == 2


async def test_discard_removes_nothing_while_the_archive_fails(vhost):
    for n in range(20):
        await vhost.dead_letter(vhost.job(f"https://v3.fal.media/{n}.png"))
    before = await vhost.order()
    with pytest.raises(DatabaseUnavailableError):
        await discard(vhost, vhost.settings.model_copy(update={"supabase_url": "http://127.0.0.1:1"}))
    await vhost.sql.execute("drop function outlast_archive(jsonb, bigint, text)")
    with pytest.raises(DatabaseUnavailableError, match="migrations"):
        await discard(vhost)
    await vhost.sql.execute(
        "create function outlast_archive(p_letters jsonb, p_keep_seconds bigint, p_by text) returns jsonb "
        """language sql as $$ select '{"archived": 3}'::jsonb $$"""
    )
    with pytest.raises(DatabaseUnavailableError, match="3 of 16"):
        await discard(vhost)
    assert await vhost.order() == before


async def test_discard_keeps_the_rest_when_the_archive_fails_midway(vhost):
    for n in range(40):
        await vhost.dead_letter(vhost.job(f"https://v3.fal.media/{n}.png"), minutes=n)
    service = DeadLetterService(vhost.settings, "tester")
    chosen = await service.find(DeadLetterFilter())
    await vhost.sql.execute("alter table outlast_dead_archive add check (item ->> 'failed_at' < '2026-11-01T12:20')")
    async with service.batch("discard", chosen) as batch:
        with pytest.raises(RowRejectedError):
            await batch.run()
        assert batch.outcome().done == 16
    assert await vhost.count() == 24


async def test_discard_without_a_database_raises(vhost):
    await vhost.dead_letter(vhost.job("https://v3.fal.media/a.png"))
    with pytest.raises(NoArchiveError, match="SUPABASE_URL"):
        await discard(vhost, vhost.settings.model_copy(update={"supabase_url": None}))
    assert await vhost.count() == 1
