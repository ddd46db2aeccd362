"""Publishing during various broker failures: every message reported as confirmed is in its queue."""

import asyncio
import time
from uuid import uuid4

import aio_pika
import pytest
from pydantic import SecretStr
from yarl import URL

from tests.broker.conftest import memory_alarm
from tests.time_limits import FAST_SECONDS, WAIT_SECONDS
from worker.broker import publish_channel, topology
from worker.broker.connection import Broker
from worker.broker.errors import ENDED, BrokerUnavailableError
from worker.observability.metrics import Metrics
from worker.settings import Settings

QUEUE = "outlast.maintenance"
KEY = "maintenance"
UNKNOWN_KEY = "no such key"  # no queue is bound with it, so its messages are returned
PUBLISH = b"\x00\x3c\x00\x28"  # AMQP 0-9-1: class 60, method 40
LIMIT_SECONDS = WAIT_SECONDS


@pytest.fixture
async def broker(rabbitmq_url, proxy):
    url = URL(rabbitmq_url).with_port(proxy.port)
    settings = Settings.load(
        _env_file=None, rabbitmq_url=SecretStr(str(url)), supabase_url="http://x", supabase_service_role_key="k"
    )
    async with Broker(settings, Metrics("test"), "test") as broker:
        await broker.wait_ready()
        yield broker


@pytest.fixture
async def channel(rabbitmq_url):
    """A separate channel that does not pass the proxy."""
    async with await aio_pika.connect(rabbitmq_url) as connection:
        yield await connection.channel()


async def try_publish(broker, name, *, body=b"x", limit=LIMIT_SECONDS, key=KEY):
    """Publish a message with this id; return the error text, or None when it was confirmed."""
    try:
        await broker.publish(topology.WORK, key, aio_pika.Message(body, message_id=name), limit)
    except BrokerUnavailableError as error:
        return str(error)
    return None


async def publish_many(broker, count, during=None, *, senders=50, **more):
    """Publish `count` messages from several senders; call `during` when a third of them is done.

    Returns the error text, or None, by message id.
    """
    names, errors, third = [uuid4().hex for _ in range(count)], {}, asyncio.Event()
    left = iter(names)

    async def send():
        for name in left:
            errors[name] = await try_publish(broker, name, **more)
            if len(errors) >= count / 3:
                third.set()

    sending = asyncio.gather(*(send() for _ in range(senders)))
    await third.wait()
    if during is not None:
        await during()
    await sending
    return errors


async def take_messages(channel, name=QUEUE):
    queue, found = await channel.get_queue(name), []
    while message := await queue.get(fail=False):
        found.append(message)
        await message.ack()
    return found


async def wait_until_publishable(broker):
    async with asyncio.timeout(LIMIT_SECONDS):
        while await try_publish(broker, uuid4().hex, limit=0.5) is not None:
            await asyncio.sleep(0.1)


async def test_concurrent_publishes_arrive_once_and_in_order(broker, channel):
    names = [uuid4().hex for _ in range(500)]
    assert await asyncio.gather(*(try_publish(broker, name) for name in names)) == [None] * 500
    assert [message.message_id for message in await take_messages(channel)] == names


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 1_000_000])
async def test_bodies_of_any_size_arrive_complete_with_their_properties(broker, channel, size):
    body = bytes(range(256)) * (size // 256 + 1)
    sent = aio_pika.Message(body[:size], message_id="m", correlation_id="c", headers={"x": 1, "y": [True, "z"]})
    await broker.publish(topology.WORK, KEY, sent, LIMIT_SECONDS)
    (message,) = await take_messages(channel)
    assert message.body == body[:size]
    assert (message.message_id, message.correlation_id) == ("m", "c")
    assert {"x": 1, "y": [True, "z"]}.items() <= message.headers.items()


async def test_unroutable_message_is_reported_and_others_are_confirmed(broker, channel):
    lost, found = await asyncio.gather(
        try_publish(broker, "lost", key=UNKNOWN_KEY),
        broker.publish(topology.DEAD, "", aio_pika.Message(b"found"), LIMIT_SECONDS),
    )
    assert lost.startswith(f"no queue is bound to {topology.WORK} with routing key '{UNKNOWN_KEY}'")
    assert found is None
    assert len(await take_messages(channel, topology.DEAD)) == 1
    await broker.publish(topology.WORK, UNKNOWN_KEY, aio_pika.Message(b""), LIMIT_SECONDS, mandatory=False)


async def test_unroutable_messages_with_the_same_id_are_all_reported(broker):
    errors = await asyncio.gather(*(try_publish(broker, "the same", key=UNKNOWN_KEY) for _ in range(10)))
    assert all(reason.startswith("no queue is bound") for reason in errors)


async def test_messages_with_the_same_id_are_each_confirmed(broker, channel):
    assert await asyncio.gather(*(try_publish(broker, "the same") for _ in range(200))) == [None] * 200
    assert len(await take_messages(channel)) == 200


async def test_unroutable_message_is_reported_during_a_control_message_with_the_same_id(broker):
    for _ in range(20):
        control = broker.publish(
            topology.CONTROL, "", aio_pika.Message(b"", message_id="x"), LIMIT_SECONDS, mandatory=False
        )
        lost, _ = await asyncio.gather(try_publish(broker, "x", key=UNKNOWN_KEY), control)
        assert lost.startswith("no queue is bound")


async def test_no_unroutable_message_is_confirmed(broker):
    """Also while some publishes are cancelled or time out and others start."""

    async def publish_repeatedly():
        answers = []
        for turn in range(40):
            try:
                answers.append(
                    await asyncio.wait_for(try_publish(broker, "the same", key=UNKNOWN_KEY), 0.001 * (turn % 5) or None)
                )
            except TimeoutError:
                answers.append("too late")
        return answers

    answers = await asyncio.gather(*(publish_repeatedly() for _ in range(50)))
    assert None not in {answer for one in answers for answer in one}


@pytest.mark.parametrize("pause", [0, 0.1, 0.3, 0.5, 0.7])
async def test_cancelled_publish_with_the_same_id_does_not_hide_a_returned_message(broker, proxy, pause):
    """Whenever the first publish was cancelled, the second is never reported as confirmed."""
    proxy.delay = 0.2
    first, second = (asyncio.create_task(try_publish(broker, "the same", key=UNKNOWN_KEY)) for _ in range(2))
    await asyncio.wait([first], timeout=pause)
    first.cancel()
    assert "no queue is bound" in await second


async def test_message_rejected_by_a_full_queue_is_reported(broker, channel):
    full = await channel.declare_queue(
        "full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    await full.bind(topology.WORK, KEY)
    errors = await publish_many(broker, 50)
    refused = [reason for reason in errors.values() if reason is not None]
    assert len(refused) >= 40
    assert all("RabbitMQ rejected the message" in reason for reason in refused)
    stored = {message.message_id for message in await take_messages(channel, "full")}
    assert {name for name, reason in errors.items() if reason is None} <= stored


async def test_channel_closed_by_the_broker_confirms_no_lost_message(broker, channel):
    async def close():
        """Publish to a deleted exchange; the broker answers by closing the channel."""
        await channel.exchange_delete(topology.CONTROL)
        await broker.publish(topology.CONTROL, "", aio_pika.Message(b""), LIMIT_SECONDS, mandatory=False)

    errors = await publish_many(broker, 2000, close)
    there = {message.message_id for message in await take_messages(channel)}
    assert {name for name, reason in errors.items() if reason is None} <= there
    assert await try_publish(broker, "afterwards") is None


@pytest.mark.parametrize("senders", [3, 50, 1000])
async def test_connection_cut_during_publishes_confirms_no_lost_message(broker, channel, proxy, senders):
    errors = await publish_many(broker, 2000, proxy.cut, senders=senders)
    await wait_until_publishable(broker)
    there = {message.message_id for message in await take_messages(channel)}
    assert {name for name, reason in errors.items() if reason is None} <= there
    reasons = {reason for reason in errors.values() if reason is not None}
    assert reasons
    assert all(reason == ENDED or "Connection" in reason for reason in reasons)


async def test_silent_broker_times_out_every_publish(broker, proxy):
    proxy.silence_at = PUBLISH
    began = time.monotonic()
    errors = await asyncio.gather(*(try_publish(broker, uuid4().hex, limit=0.4) for _ in range(200)))
    assert time.monotonic() - began < FAST_SECONDS
    assert all(reason.startswith("no confirm within 0.4 s") for reason in errors)
    proxy.silence_at = b""
    proxy.silenced.clear()
    await proxy.cut()
    await wait_until_publishable(broker)


async def test_publishes_are_bounded_when_the_broker_does_not_read(broker, channel, proxy):
    proxy.delay = 3.0
    errors = await asyncio.gather(
        *(try_publish(broker, uuid4().hex, body=bytes(1_000_000), limit=0.5) for _ in range(100))
    )
    assert None not in errors
    proxy.delay = 0.0
    await wait_until_publishable(broker)
    assert len(await take_messages(channel)) < 50


async def test_cancelled_publish_does_not_affect_other_confirms(broker):
    async def cancel():
        for task in tasks[::2]:
            task.cancel()

    names = [uuid4().hex for _ in range(200)]
    tasks = [asyncio.create_task(try_publish(broker, name)) for name in names]
    await asyncio.sleep(0)
    await cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in ended[::2])
    assert ended[1::2] == [None] * 100
    assert "no queue is bound" in await try_publish(broker, "later", key=UNKNOWN_KEY)


async def test_publish_in_a_task_cancelled_earlier_still_times_out(broker, proxy):
    async def publish_after_cancellation():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await try_publish(broker, "last words", limit=0.2)

    proxy.silence_at = PUBLISH
    task = asyncio.create_task(publish_after_cancellation())
    await asyncio.sleep(0)
    task.cancel()
    assert "no confirm within 0.2 s" in await task


async def test_send_to_a_queue_by_name_and_ignore_a_missing_queue(broker, channel):
    await broker.send_to_queue(QUEUE, aio_pika.Message(b"by name"), LIMIT_SECONDS)
    await broker.send_to_queue("no such queue", aio_pika.Message(b"to nobody"), LIMIT_SECONDS)
    assert [message.body for message in await take_messages(channel)] == [b"by name"]


async def test_message_that_cannot_be_encoded_raises_and_does_not_affect_others(broker, channel):
    with pytest.raises(ValueError, match="too long"):
        await broker.publish(topology.WORK, "k" * 300, aio_pika.Message(b"x"), LIMIT_SECONDS)
    with pytest.raises(TypeError):
        await broker.publish(topology.WORK, KEY, aio_pika.Message(b"x", headers={"x": object()}), LIMIT_SECONDS)
    assert await try_publish(broker, "fine") is None
    assert len(await take_messages(channel)) == 1


async def test_publish_blocked_by_an_alarm_times_out_and_later_ones_succeed(rabbitmq, broker):
    async with memory_alarm(rabbitmq):
        errors = await asyncio.gather(*(try_publish(broker, uuid4().hex, limit=1) for _ in range(20)))
    assert all(reason.startswith("no confirm within 1 s") for reason in errors)
    await wait_until_publishable(broker)


async def test_channel_with_a_rejected_message_is_replaced_once_and_closed_later(rabbitmq_url, monkeypatch):
    """In a cluster, a channel may reject everything until a lost node is back; another channel does not."""
    monkeypatch.setattr(publish_channel, "PUBLISH_SECONDS", FAST_SECONDS)
    monkeypatch.setattr(publish_channel, "MIN_REPLACE_SECONDS", LIMIT_SECONDS)
    async with await aio_pika.connect_robust(rabbitmq_url) as connection:
        publishing = publish_channel.PublishChannel(connection.channel)
        publishing.current = first = await connection.channel()
        assert await asyncio.gather(*(publishing.replace(first) for _ in range(5))) == [True] * 5
        second = publishing.current
        assert second is not first
        assert not await publishing.replace(second), "too early after the first replacement"
        assert await publishing.replace(first), "it was replaced before"
        assert publishing.current is second
        assert not first.is_closed
        await asyncio.wait_for(first.closed(), LIMIT_SECONDS)
        assert not second.is_closed
    await publishing.aclose()
