"""Items, filters and groups of dead letters on a real broker, including messages that RabbitMQ itself dead-lettered."""

import asyncio

import aio_pika
import pytest

from schemas.dead_letters import DeadLetterFilter
from tests.broker.dead_letter_vhost import dead_letter_vhost
from tests.time_limits import WAIT_SECONDS
from worker.dead_letters.service import DeadLetterService


@pytest.fixture
async def vhost(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with dead_letter_vhost(rabbitmq_url) as found:
        yield found


async def test_messages_dead_lettered_by_the_broker_have_their_own_codes(vhost):
    await vhost.kill_workers(vhost.job("https://v3.fal.media/a.png"), attempt=3)
    await vhost.kill_workers(vhost.job("data:image/png;base64,AAAA"), deaths=5)
    items, _ = await DeadLetterService(vhost.settings, "test").items(DeadLetterFilter(code="worker_killed"))
    items.sort(key=lambda item: item.attempts)  # RabbitMQ's timestamps are whole seconds
    assert [(item.attempts, item.host, item.stage) for item in items] == [
        (21, "v3.fal.media", "job"),
        (26, "data", "job"),
    ]
    assert "delivered 21 times" in items[0].error
    assert all(item.failed_at.tzinfo and item.queue == "file_processing" for item in items)
    expired = await vhost.channel.declare_queue(
        exclusive=True,
        arguments={
            "x-message-ttl": 1,
            "x-dead-letter-exchange": "outlast.dead",
            "x-dead-letter-routing-key": "file_processing",
        },
    )
    await vhost.channel.default_exchange.publish(aio_pika.Message(b"late"), expired.name)
    async with asyncio.timeout(WAIT_SECONDS):
        while await vhost.count() < 3:
            await asyncio.sleep(0.02)
    [item], _ = await DeadLetterService(vhost.settings, "test").items(DeadLetterFilter(code="broker_expired"))
    assert (item.task_id, item.attempts, item.host) == (None, None, None)


async def test_items_are_grouped_by_task_and_code_and_sorted_by_time(vhost):
    job = vhost.job("https://v3.fal.media/a.png?token=hidden", "https://v3.fal.media/b.png")
    one, other = job.files
    error = "https://me:hidden@v3.fal.media/a.png?token=hidden answered 404"
    await vhost.dead_letter(job.limited_to([one.source_key]), "source_gone", error, minutes=9, attempt=2)
    await vhost.dead_letter(job.limited_to([other.source_key]), "source_gone", "older", minutes=1, attempt=1, replays=2)
    await vhost.dead_letter(job, "corrupted", minutes=5)
    await vhost.dead_letter_raw(b"\xff\x00 no json")
    await vhost.dead_letter_raw(b"\xff\x00 no json")
    service = DeadLetterService(vhost.settings, "test")
    items, total = await service.items(DeadLetterFilter())
    assert [item.code for item in items] == ["undecodable", "corrupted", "source_gone"]
    assert total == 3
    gone = items[-1]
    assert (gone.attempts, gone.replays, gone.error) == (2, 2, "https://v3.fal.media/a.png answered 404")
    shown = await service.show(gone.id)
    assert [file["url"] for file in shown["files"]] == ["https://v3.fal.media/a.png", "https://v3.fal.media/b.png"]
    assert shown["headers"]["x-outlast-attempt"] == 2
    assert "hidden" not in str(shown)
    assert (await service.show(items[0].id))["files"] == []
    assert (await service.items(DeadLetterFilter(limit=1)))[0] == items[:1]
    assert (await service.items(DeadLetterFilter(limit=1)))[1] == 3
    assert len({letter.item.id for letter in await service.find(DeadLetterFilter(limit=2))}) == 2


async def test_each_filter_selects_its_items_and_groups_are_counted(vhost):
    first = vhost.job("https://v3.fal.media/a.png", generation_id="g1", user_id="ann")
    second = vhost.job("https://other.fal.media/b.png", generation_id="g2", user_id="bob")
    third = vhost.job("https://other.fal.media/c.png", generation_id="g3", user_id="bob")
    await vhost.dead_letter(first, "source_gone", minutes=1)
    await vhost.dead_letter(second, "corrupted", stage="compress", minutes=2)
    await vhost.dead_letter(third, "corrupted", stage="compress", minutes=3)
    service = DeadLetterService(vhost.settings, "test")
    everything = {item.task_id: item.id for item in (await service.items(DeadLetterFilter()))[0]}

    async def tasks(**filters):
        return [item.task_id for item in (await service.items(DeadLetterFilter.parse(filters)))[0]]

    assert await tasks(code="source_gone") == [first.task_id]
    assert await tasks(stage="compress") == [second.task_id, third.task_id]
    assert await tasks(host="v3.fal.media") == [first.task_id]
    assert await tasks(since="2026-11-01T12:02:00Z") == [second.task_id, third.task_id]
    assert await tasks(since="2026-11-01T13:02:00 01:00") == [second.task_id, third.task_id]
    assert await tasks(until="2026-11-01T12:02") == [first.task_id, second.task_id]
    assert await tasks(since="2026-11-02") == []
    assert await tasks(generation="g2") == [second.task_id]
    assert await tasks(user="bob", limit=1) == [second.task_id]
    assert await tasks(task=str(third.task_id)) == [third.task_id]
    assert await tasks(ids=[str(everything[first.task_id])]) == [first.task_id]
    groups, total = await service.groups(DeadLetterFilter())
    assert [(group.code, group.stage, group.host, group.count) for group in groups] == [
        ("corrupted", "compress", "other.fal.media", 2),
        ("source_gone", "download", "v3.fal.media", 1),
    ]
    assert total == 2
    assert (groups[0].first_seen.minute, groups[0].last_seen.minute) == (2, 3)
