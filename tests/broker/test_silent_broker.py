"""A broker that stops answering without closing its connections is treated as an outage, and every part recovers."""

import asyncio

import aio_pika
import pytest
from pydantic import SecretStr
from yarl import URL

from handlers.errors import FileProcessingError
from tests.metric_values import metric_value
from tests.time_limits import LONG_WAIT_SECONDS
from worker.broker import broadcast, topology
from worker.broker.connection import Broker
from worker.broker.envelope import Envelope
from worker.broker.errors import BROKER_ERRORS, BrokerUnavailableError, translate_broker_errors
from worker.consume.delivery import Delivery, LostDeliveryError
from worker.observability.metrics import Metrics
from worker.settings import Settings

QUEUE_DECLARE = b"\x00\x32\x00\x0a"  # AMQP 0-9-1: class 50, method 10
PUBLISH = b"\x00\x3c\x00\x28"  # class 60, method 40
LIMIT_SECONDS = LONG_WAIT_SECONDS


@pytest.fixture
async def broker(rabbitmq_url, proxy):
    """A broker connection through the proxy, which detects silence within seconds."""
    url = URL(rabbitmq_url).with_port(proxy.port).update_query(heartbeat=1)
    settings = Settings.load(
        rabbitmq_url=SecretStr(str(url)), supabase_url="http://x", supabase_service_role_key=SecretStr("k")
    )
    async with Broker(settings, Metrics("test"), "test") as broker:
        await broker.wait_ready()
        yield broker


async def try_publish(broker):
    try:
        await broker.publish(topology.DEAD, "", aio_pika.Message(b"found"), LIMIT_SECONDS)
    except BrokerUnavailableError:
        return False
    return True


async def test_publish_to_a_silent_broker_fails_and_works_again_later(broker, proxy):
    proxy.silence_at = PUBLISH
    async with asyncio.timeout(LIMIT_SECONDS):
        with pytest.raises(BrokerUnavailableError, match="the connection ended"):
            await broker.publish(topology.DEAD, "", aio_pika.Message(b"lost"), LIMIT_SECONDS)
        proxy.silence_at = b""
        proxy.silenced.clear()
        while await try_publish(broker) is False:
            await asyncio.sleep(0.1)
        assert await broker.count_waiting(topology.DEAD) == 1


async def test_control_listener_recovers_from_silence_during_its_setup(broker, proxy, monkeypatch, rabbitmq_url):
    monkeypatch.setattr(broadcast, "CONTROL_SECONDS", LIMIT_SECONDS)
    received = asyncio.Event()
    proxy.silence_at = QUEUE_DECLARE
    listening = asyncio.create_task(broadcast.listen(broker, lambda _: received.set()))
    async with asyncio.timeout(LIMIT_SECONDS), await aio_pika.connect(rabbitmq_url) as connection:
        await proxy.silenced.wait()
        await asyncio.wait([listening], timeout=8)  # by then heartbeats have been missed
        assert not listening.done()
        proxy.silence_at = b""
        proxy.silenced.clear()
        exchange = await (await connection.channel()).get_exchange(topology.CONTROL)
        while not received.is_set():
            await exchange.publish(aio_pika.Message(b'{"do": "stop"}'), "", mandatory=False)
            await asyncio.wait([asyncio.ensure_future(received.wait())], timeout=0.2)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening


async def test_delivery_of_a_closed_connection_is_lost_and_not_counted(worker_env, monkeypatch):
    monkeypatch.setattr("worker.consume.delivery.PUBLISH_SECONDS", 0.05)
    queue = await worker_env.channel.declare_queue(exclusive=True)
    await worker_env.channel.default_exchange.publish(
        Envelope(worker_env.job("https://fal.media/a.png")).message(), queue.name
    )
    message, failure = await queue.get(), FileProcessingError("broken")
    await worker_env.channel.close()
    metrics = Metrics("test")
    broker = Broker(worker_env.settings, metrics, "never there")
    delivery = Delivery(message, broker, metrics, worker_env.records.note_undecodable)
    envelope = Envelope.read(message)
    with pytest.raises(LostDeliveryError):
        await delivery.retry(envelope, 1, failure)
    with pytest.raises(LostDeliveryError):
        await delivery.dead_letter(envelope, failure)
    assert metric_value(metrics.retries.labels(failure.code)) == 0
    assert metric_value(metrics.dead_letters.labels(failure.code)) == 0


async def test_a_cancelled_task_stays_cancelled():
    async def waits():
        with translate_broker_errors():
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("ended", [asyncio.CancelledError(), Exception()])
async def test_error_of_a_closing_connection_is_an_outage(ended):
    waiting = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waiting.set_exception, ended)
    with pytest.raises(BrokerUnavailableError), translate_broker_errors():
        await waiting


async def test_connection_end_in_a_task_cancelled_earlier_is_an_outage():
    async def cleans_up():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(ended.set_exception, asyncio.CancelledError())
            with translate_broker_errors():
                await ended

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(BrokerUnavailableError):
        await task


async def test_a_channel_of_a_closed_connection_is_an_outage(rabbitmq_url):
    connection = await aio_pika.connect(rabbitmq_url)
    underlay = connection.transport.connection
    channel = connection.channel()
    await connection.close()
    with pytest.raises(BrokerUnavailableError), translate_broker_errors():
        await underlay.channel()
    with pytest.raises(BrokerUnavailableError), translate_broker_errors():
        connection.channel()
    with pytest.raises(BROKER_ERRORS), translate_broker_errors():
        await channel.initialize()


async def test_a_closed_robust_connection_is_an_outage(rabbitmq_url):
    connection = await aio_pika.connect_robust(rabbitmq_url)
    await connection.close()
    with pytest.raises(BrokerUnavailableError), translate_broker_errors():
        await connection.connect()


@pytest.mark.parametrize("error", [KeyError("key"), RuntimeError("a bug"), RuntimeError("the file is closed")])
async def test_other_errors_are_not_translated_to_an_outage(error):
    with pytest.raises(type(error)) as raised, translate_broker_errors():
        raise error
    assert not isinstance(raised.value, BROKER_ERRORS)
