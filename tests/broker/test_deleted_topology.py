"""Queues, exchanges and bindings that are deleted while a receiver and a worker are connected."""

import asyncio

import aio_pika
import pytest
from aio_pika.robust_channel import RobustChannel
from yarl import URL

from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS
from worker.broker import topology, topology_watch
from worker.broker.broadcast import Command, send_command
from worker.broker.connection import Broker
from worker.broker.errors import BrokerUnavailableError
from worker.observability.metrics import Metrics

WORK_QUEUE = "outlast.file_processing"


@pytest.fixture
async def broker(worker_env):
    """A connection that consumes nothing, as a receiver's."""
    async with Broker(worker_env.settings, Metrics("test"), "test receiver") as broker:
        await broker.wait_ready()
        yield broker


async def exists(rabbitmq_url, name, kind="queue"):
    """Return whether a queue or an exchange exists."""
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        try:
            await (channel.get_queue(name) if kind == "queue" else channel.get_exchange(name))
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return False
    return True


async def wait_until(condition):
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_job_is_published_to_a_queue_that_rabbitmqctl_deleted(rabbitmq, rabbitmq_url, worker_env, broker):
    await worker_env.pause()
    await rabbitmq.control("delete_queue", "-p", URL(rabbitmq_url).path.removeprefix("/"), WORK_QUEUE)
    await broker.publish(topology.WORK, "file_processing", aio_pika.Message(b"x", message_id="m"), WAIT_SECONDS)
    assert await worker_env.message_count(WORK_QUEUE) == 1


async def test_deleted_queues_and_exchanges_are_declared_again_without_a_publish(rabbitmq_url, worker_env):
    """RabbitMQ reports only the deletion of the queues that the worker consumes."""
    names = {(queue, "queue") for queue in (WORK_QUEUE, "outlast.maintenance", "outlast.dead", "outlast.retry.2")}
    names |= {(exchange, "exchange") for exchange in ("outlast", "outlast.dead", "outlast.retry.1", "outlast.control")}
    for name, kind in names:
        await (worker_env.channel.queue_delete if kind == "queue" else worker_env.channel.exchange_delete)(name)

    async def all_exist():
        return all([await exists(rabbitmq_url, name, kind) for name, kind in names])

    await wait_until(all_exist)
    assert worker_env.broker.ready


async def test_worker_processes_jobs_after_its_queue_was_deleted(worker_env, source):
    await worker_env.channel.queue_delete(WORK_QUEUE)
    # A message that arrives while RabbitMQ still removes the old queue may be lost with it.
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while worker_env.outcome_count("completed") == 0:
            await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav"))
            await asyncio.sleep(1)
    assert await stored_files(worker_env) >= 1


async def test_worker_consumes_again_although_aio_pika_did_not_restore_its_consumer(
    rabbitmq_url, worker_env, source, monkeypatch
):
    """As if aio-pika had consumed from the old queue while RabbitMQ was still deleting it."""
    monkeypatch.setattr(RobustChannel, "_on_consumer_cancel", lambda *_: None)
    monkeypatch.setattr(RobustChannel, "_restore_missing_consumers", no_consumers)
    await worker_env.channel.queue_delete(WORK_QUEUE)
    await wait_until(lambda: exists(rabbitmq_url, WORK_QUEUE))
    await wait_until(lambda: has_consumers(worker_env, wanted=True))
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("completed")
    assert await stored_files(worker_env) == 1


async def no_consumers(*_):
    return False


async def stored_files(worker_env):
    return await worker_env.sql.fetchval("select count(*) from outlast_files")


async def test_job_in_process_completes_although_its_queue_is_deleted(worker_env, source):
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav?slow=50000"))
    await worker_env.wait_until_running()
    await worker_env.channel.queue_delete(WORK_QUEUE)
    await worker_env.wait_for_outcome("completed")
    assert await stored_files(worker_env) == 1


async def test_worker_paused_by_an_outage_resumes_after_its_queue_was_deleted(worker_env, source):
    await worker_env.gateway.stop()
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav"))
    await wait_until(lambda: has_consumers(worker_env, wanted=False))
    await worker_env.channel.queue_delete(WORK_QUEUE)
    await worker_env.gateway.start()
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.mp3"))
    await worker_env.wait_for_outcome("completed")
    assert await has_consumers(worker_env, wanted=True)


async def has_consumers(worker_env, *, wanted):
    declared = await worker_env.channel.declare_queue(WORK_QUEUE, passive=True)
    return (declared.declaration_result.consumer_count > 0) is wanted


async def test_retry_and_dead_letter_reach_queues_that_were_deleted(worker_env, source):
    job = worker_env.job(f"{source.url}/files/nothing.png?status=503")
    for queue in ("outlast.retry.1", "outlast.retry.2", "outlast.dead"):
        await worker_env.channel.queue_delete(queue)
    await worker_env.send(job)
    await worker_env.wait_for_outcome("failed")
    assert await worker_env.message_count("outlast.dead") == 1


async def test_job_is_published_to_an_exchange_that_was_deleted(worker_env, broker):
    """RabbitMQ closes the publisher's channel; what was not confirmed is published again by the sender."""
    await worker_env.pause()
    await worker_env.channel.exchange_delete("outlast")
    await broker.publish(topology.WORK, "file_processing", aio_pika.Message(b"", message_id="first"), WAIT_SECONDS)
    assert await worker_env.message_count(WORK_QUEUE) == 1


async def test_no_job_is_lost_when_the_exchange_is_deleted_during_many_publishes(worker_env, broker):
    await worker_env.pause()
    names = {str(number) for number in range(300)}

    async def publish(name):
        message = aio_pika.Message(b"", message_id=name)
        async with asyncio.timeout(LONG_WAIT_SECONDS):
            while True:
                try:
                    return await broker.publish(topology.WORK, "file_processing", message, WAIT_SECONDS)
                except BrokerUnavailableError:  # as a 503 for the sender of a webhook
                    await asyncio.sleep(0.05)

    await worker_env.channel.exchange_delete("outlast")
    await asyncio.gather(*map(publish, names))
    found = set()
    while message := await worker_env.take_message(WORK_QUEUE):
        found.add(message.message_id)
    assert found == names


async def test_job_is_published_although_the_binding_was_deleted(worker_env, broker):
    await worker_env.pause()
    queue = await worker_env.channel.get_queue(WORK_QUEUE)
    await queue.unbind("outlast", "file_processing")
    await broker.publish(topology.WORK, "file_processing", aio_pika.Message(b"x", message_id="m"), WAIT_SECONDS)
    assert await worker_env.message_count(WORK_QUEUE) == 1


async def test_binding_of_the_dead_letters_is_made_again(worker_env):
    queue = await worker_env.channel.get_queue("outlast.dead")
    await queue.unbind("outlast.dead", "")
    exchange = await worker_env.channel.get_exchange("outlast.dead")

    async def is_routed():
        await exchange.publish(aio_pika.Message(b"x"), "", mandatory=False)
        return await worker_env.message_count("outlast.dead") > 0

    await wait_until(is_routed)
    assert (await worker_env.take_message("outlast.dead")).body == b"x"


async def test_worker_receives_commands_after_the_control_exchange_was_deleted(worker_env):
    await worker_env.channel.exchange_delete("outlast.control")
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while not worker_env.worker.stop_requested.is_set():
            await send_command(worker_env.broker, Command(do="stop"))
            await asyncio.sleep(0.1)
    assert await exists(worker_env.settings.rabbitmq_url.get_secret_value(), "outlast.control", "exchange")


async def test_receiver_is_not_ready_and_answers_503_until_the_queue_can_be_declared(
    worker_env, http, source, delete_for_good
):
    submission = {"urls": [f"{source.url}/files/tone.wav"], "user_id": "u", "generation_id": "g"}
    async with delete_for_good(WORK_QUEUE):
        await wait_until(lambda: answers(http, 503, f"{WORK_QUEUE} is missing"))
        async with http.post("/tasks", json=submission) as response:
            assert (response.status, (await response.json())["code"]) == (503, "broker_unavailable")
    await wait_until(lambda: answers(http, 200, "ready"))
    async with http.post("/tasks", json=submission) as response:
        assert response.status == 202
    await worker_env.wait_for_outcome("completed")


async def answers(http, status, text):
    """Return whether `/readyz` answers with this status and text."""
    async with http.get("/readyz") as response:
        return response.status == status and text in await response.text()


async def test_unknown_routing_key_is_reported_at_once(broker, monkeypatch):
    monkeypatch.setattr(topology_watch, "LIMIT_SECONDS", 0)  # a repair would fail
    with pytest.raises(BrokerUnavailableError, match="no queue is bound to outlast with routing key 'no such key'"):
        await broker.publish(topology.WORK, "no such key", aio_pika.Message(b"x", message_id="m"), WAIT_SECONDS)
