"""Browsing dead letters on a real broker changes nothing, and one operator at a time has access."""

import asyncio
import resource
import time
from uuid import uuid4

import aio_pika
import pytest
from pydantic import SecretStr

from schemas.dead_letters import DeadLetterFilter
from tests.broker.dead_letter_vhost import dead_letter_vhost
from tests.time_limits import WAIT_SECONDS
from worker.broker.errors import BrokerUnavailableError
from worker.dead_letters.queue_lock import LOCK_QUEUE, BusyError, DeadLetterQueue
from worker.dead_letters.service import DeadLetterService
from worker.settings import Settings


@pytest.fixture
async def vhost(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with dead_letter_vhost(rabbitmq_url) as found:
        yield found


async def test_browsing_20_times_keeps_count_and_order(vhost):
    for n in range(220):
        if n % 20 == 7:
            await vhost.dead_letter_raw(b"not json %d" % n)
        else:
            await vhost.dead_letter(vhost.job(f"https://v3.fal.media/{n}.png"), minutes=500 - n)
    before = await vhost.order()
    assert len(before) == 220
    for _ in range(20):
        assert len(await vhost.dead_letters.find(DeadLetterFilter())) == 220
        assert await vhost.count() == 220
    assert await vhost.order() == before


async def test_browsing_1500_dead_letters_keeps_their_order(vhost):
    for at in range(0, 1500, 100):
        burials = (vhost.dead_letter(vhost.job(f"https://v3.fal.media/{at + n}.png"), minutes=n) for n in range(100))
        await asyncio.gather(*burials)
    before, started = await vhost.order(), time.monotonic()
    assert len(before) == 1500
    assert len(await vhost.dead_letters.find(DeadLetterFilter())) == 1500
    assert time.monotonic() - started < WAIT_SECONDS
    assert await vhost.order() == before


async def test_a_reader_that_fails_removes_nothing(vhost):
    for n in range(100):
        await vhost.dead_letter(vhost.job(f"https://v3.fal.media/{n}.png"))
    before = await vhost.order()
    connection = await aio_pika.connect(vhost.url)
    channel = await connection.channel()
    queue = await channel.get_queue("outlast.dead", ensure=False)
    for _ in range(50):
        await queue.get()
    await connection.close()
    assert sorted(await vhost.order()) == sorted(before)
    with pytest.raises(ZeroDivisionError):
        await browse_and_fail(vhost)
    assert await vhost.count() == 100


async def browse_and_fail(vhost):
    async with vhost.dead_letters.open() as browser:
        async for _ in browser.windows(lambda message: message):
            raise ZeroDivisionError


async def test_without_a_queue_the_lists_are_empty(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    service = DeadLetterService(Settings.load(rabbitmq_url=SecretStr(rabbitmq_url)), "test")
    assert await service.items(DeadLetterFilter()) == ([], 0)
    assert await service.groups(DeadLetterFilter()) == ([], 0)
    assert await service.show(uuid4()) is None


async def test_a_second_operator_gets_busy_error(vhost):
    await vhost.dead_letter(vhost.job("https://v3.fal.media/a.png"))
    other = DeadLetterQueue(vhost.settings)
    async with vhost.dead_letters.open():
        for waiting in (vhost.dead_letters, other):
            with pytest.raises(BusyError, match="another operator"):
                async with waiting.open(wait_seconds=0.7):
                    pytest.fail("two at once")
    async with other.open(wait_seconds=0.1) as browser:
        assert browser.count == 1


async def test_waiting_operators_all_succeed(vhost):
    await vhost.dead_letter(vhost.job("https://v3.fal.media/a.png"))
    operators = [DeadLetterQueue(vhost.settings) for _ in range(5)]
    found = await asyncio.gather(*(operator.find(DeadLetterFilter()) for operator in operators * 2))
    assert [len(letters) for letters in found] == [1] * 10


async def test_lock_is_released_when_its_connection_closes(vhost):
    connection = await aio_pika.connect(vhost.url)
    await (await connection.channel()).declare_queue(LOCK_QUEUE, exclusive=True)
    asyncio.get_running_loop().call_later(1, lambda: asyncio.ensure_future(connection.close()))
    assert await vhost.dead_letters.find(DeadLetterFilter()) == []


async def test_unreachable_broker_is_reported_without_the_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(rabbitmq_url=SecretStr("amqp://guest:secret@127.0.0.1:1/"))
    with pytest.raises(BrokerUnavailableError, match="RABBITMQ_URL") as raised:
        await DeadLetterQueue(settings).find(DeadLetterFilter())
    assert "secret" not in str(raised.value)


async def test_large_bodies_are_not_kept_in_memory(vhost):
    content = "data:image/png;base64," + "A" * 4_000_000
    for n in range(20):
        await vhost.dead_letter(vhost.job(f"{content}{n}"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(await vhost.dead_letters.find(DeadLetterFilter())) == 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000
