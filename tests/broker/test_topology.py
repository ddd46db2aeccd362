"""Exchanges and queues as declared on a real RabbitMQ."""

import asyncio

import aio_pika
import pytest

from schemas.jobs import Queue
from tests.time_limits import WAIT_SECONDS
from worker.broker import topology
from worker.broker.topology import TopologyError

DELAYS = (1, 2)


@pytest.fixture
async def channel(rabbitmq_url):
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection:
        yield await connection.channel(on_return_raises=True)


async def test_declaring_twice_changes_nothing(channel):
    await topology.declare(channel, DELAYS)
    assert set(await topology.declare(channel, DELAYS)) == {
        "outlast",
        "outlast.dead",
        "outlast.control",
        "outlast.retry.1",
        "outlast.retry.2",
    }


@pytest.mark.parametrize("key", [*Queue])
async def test_each_key_has_its_durable_quorum_queue(channel, key):
    exchanges = await topology.declare(channel, DELAYS)
    await exchanges["outlast"].publish(aio_pika.Message(b"x"), key)
    queue = await channel.get_queue(f"outlast.{key}")
    message = await queue.get(timeout=WAIT_SECONDS)
    assert message.body == b"x"
    await message.ack()


async def test_message_in_a_retry_queue_returns_to_its_work_queue(channel):
    exchanges = await topology.declare(channel, DELAYS)
    await exchanges["outlast.retry.1"].publish(aio_pika.Message(b"later"), "file_processing.bulk")
    queue = await channel.get_queue("outlast.file_processing.bulk")
    assert await queue.get(fail=False) is None
    async with asyncio.timeout(WAIT_SECONDS), queue.iterator() as waiting:
        message = await anext(aiter(waiting))
    assert message.body == b"later"


async def test_message_past_the_delivery_limit_is_dead_lettered(channel):
    exchanges = await topology.declare(channel, DELAYS)
    await exchanges["outlast"].publish(aio_pika.Message(b"body"), "maintenance")
    queue = await channel.get_queue("outlast.maintenance")
    dead = await channel.get_queue("outlast.dead")
    async with asyncio.timeout(WAIT_SECONDS):
        for _ in range(topology.DELIVERY_LIMIT + 1):
            message = await queue.get(timeout=WAIT_SECONDS)
            await message.reject(requeue=True)
        async with dead.iterator() as waiting:
            dead_letter = await anext(aiter(waiting))
    assert dead_letter.body == b"body"
    assert (await queue.declare()).message_count == 0


async def test_unroutable_message_raises(channel):
    exchanges = await topology.declare(channel, DELAYS)
    with pytest.raises(aio_pika.exceptions.PublishError):
        await exchanges["outlast"].publish(aio_pika.Message(b"x"), "no such key")


async def test_queue_with_other_arguments_is_named_in_the_error(channel):
    await channel.declare_queue("outlast.dead", durable=True)
    with pytest.raises(TopologyError, match=r"outlast\.dead exists .* delete it"):
        await topology.declare(channel, DELAYS)
