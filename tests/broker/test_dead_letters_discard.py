"""Discard: letters move to the archive, and none leaves the queue that the archive does not have."""

import base64
import json

import asyncpg
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from handlers.errors import DatabaseUnavailableError
from schemas.dead_letters import DeadLetterFilter
from tests.broker.graves import graveyard
from worker.dead_letters.service import DeadLetterService, NoArchiveError


@pytest.fixture
async def yard(rabbitmq_url, database_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with (
        graveyard(rabbitmq_url) as found,
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


async def discard(yard, settings=None, **filters):
    desk = DeadLetterService(settings or yard.settings, "tester")
    async with desk.removal("discard", await desk.find(DeadLetterFilter.read(filters))) as removal:
        return await removal.run()


async def test_discarded_letters_lie_in_the_archive_for_their_time(yard):
    messages = [
        await yard.dead_letter(yard.job(f"https://v3.fal.media/{n}.png", user_id="a\x00b"), minutes=n, replays=n)
        for n in range(40)
    ]
    await yard.bury_raw(b"\xff\x00 no job", "odd\x00type")
    await yard.dead_letter(yard.job("https://v3.fal.media/kept.png"), "size_exceeded")
    items, _ = await DeadLetterService(yard.settings, "test").items(DeadLetterFilter(code="corrupted"))
    outcome = await discard(yard, code="corrupted")
    assert (outcome.matched, outcome.done, outcome.kept) == (40, 40, ())
    assert (await discard(yard, code="undecodable")).done == 1
    assert await yard.count() == 1
    assert await yard.drain() == []
    rows = await yard.sql.fetch("select *, gone_after - discarded_at as stays from outlast_dead_archive")
    bodies = {base64.b64decode(row["body"]) for row in rows}
    assert bodies == {message.body for message in messages} | {b"\xff\x00 no job"}
    assert {row["letter_id"] for row in rows} >= {str(item.id) for item in items}
    assert {row["discarded_by"] for row in rows} == {"tester"}
    assert {round(row["stays"].total_seconds()) for row in rows} == {2 * 24 * 3600}
    assert {json.loads(row["item"])["code"] for row in rows} == {"corrupted", "undecodable"}


async def test_every_letter_of_an_item_is_archived_once_however_often_it_is_said(yard):
    job = yard.job("https://v3.fal.media/a.png")
    for minutes in (1, 1, 2):
        await yard.dead_letter(job, minutes=minutes)
    assert (await discard(yard)).done == 1
    assert await yard.count() == 0
    assert await yard.sql.fetchval("select count(*) from outlast_dead_archive") == 2
    await yard.dead_letter(job, minutes=1)
    assert (await discard(yard)).done == 1
    assert await yard.sql.fetchval("select count(*) from outlast_dead_archive") == 2


async def test_while_the_archive_is_away_nothing_is_removed(yard):
    for n in range(20):
        await yard.dead_letter(yard.job(f"https://v3.fal.media/{n}.png"))
    before = await yard.order()
    with pytest.raises(DatabaseUnavailableError):
        await discard(yard, yard.settings.model_copy(update={"supabase_url": "http://127.0.0.1:1"}))
    await yard.sql.execute("drop function outlast_archive(jsonb, bigint, text)")
    with pytest.raises(DatabaseUnavailableError, match="migrations"):
        await discard(yard)
    await yard.sql.execute(
        "create function outlast_archive(p_letters jsonb, p_keep_seconds bigint, p_by text) returns jsonb "
        """language sql as $$ select '{"archived": 3}'::jsonb $$"""
    )
    with pytest.raises(DatabaseUnavailableError, match="3 of 16"):
        await discard(yard)
    assert await yard.order() == before


async def test_an_archive_that_fails_in_the_middle_leaves_the_rest(yard):
    for n in range(40):
        await yard.dead_letter(yard.job(f"https://v3.fal.media/{n}.png"), minutes=n)
    desk = DeadLetterService(yard.settings, "tester")
    chosen = await desk.find(DeadLetterFilter())
    await yard.sql.execute("alter table outlast_dead_archive add check (item ->> 'failed_at' < '2026-11-01T12:20')")
    async with desk.removal("discard", chosen) as removal:
        with pytest.raises(DatabaseUnavailableError):
            await removal.run()
        assert removal.outcome().done == 16
    assert await yard.count() == 24


async def test_without_a_database_there_is_no_discarding(yard):
    await yard.dead_letter(yard.job("https://v3.fal.media/a.png"))
    with pytest.raises(NoArchiveError, match="SUPABASE_URL"):
        await discard(yard, yard.settings.model_copy(update={"supabase_url": None}))
    assert await yard.count() == 1
