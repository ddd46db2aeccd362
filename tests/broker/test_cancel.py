"""Cancelling through the control exchange: immediate, on every worker, without leftovers."""

import asyncio
import json
import signal
from uuid import uuid4

import aio_pika
import pytest
import pyvips

from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.broker.conftest import close_all_connections
from tests.codec_processes import is_running, wait_for_decoding
from tests.time_limits import WAIT_SECONDS
from worker.broker.broadcast import Command, cancel_task, send_command
from worker.consume import worker


@pytest.fixture(scope="module")
def slow_picture_url(source):
    """The URL of a picture that takes seconds to encode."""
    noise = pyvips.Image.gaussnoise(3000, 3000, sigma=80, mean=128).cast("uchar")
    noise.bandjoin([noise.rot90(), noise.rot180()]).copy(interpretation="srgb").pngsave(
        str(source.folder / "heavy.png"), compression=1
    )
    return f"{source.url}/files/heavy.png"


async def wait_until_listening(worker_env):
    """Wait until the worker has bound its queue to the control exchange."""
    exchange = await worker_env.channel.get_exchange("outlast.control")
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                await exchange.publish(aio_pika.Message(b"?"), "", mandatory=True)
            except aio_pika.exceptions.PublishError:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.fixture
def no_heartbeat(monkeypatch):
    """Disable heartbeats: a heartbeat also reports cancelled tasks to the worker."""
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 600)


@pytest.mark.usefixtures("no_heartbeat")
async def test_running_download_is_cancelled_before_the_next_heartbeat(worker_env, source, tmp_path):
    await wait_until_listening(worker_env)
    names = ("tone.wav", "photo.png")  # so slow that no codec process starts, whose folder would stay
    job = worker_env.job(*(source.file_url(name, slow=1000) for name in names))
    await worker_env.send(job)
    async with asyncio.timeout(WAIT_SECONDS):
        while not list(tmp_path.glob("outlast-*/*")):
            await asyncio.sleep(0.01)
    assert await cancel_task(job.task_id, worker_env.records, worker_env.broker)
    await worker_env.wait_for_outcome("cancelled")
    async with asyncio.timeout(WAIT_SECONDS):
        while list(tmp_path.glob("outlast-*")):
            await asyncio.sleep(0.01)
    task = await worker_env.task(job)
    assert task["status"] == "cancelled"
    assert await worker_env.sql.fetchval("select coalesce(sum(refs), 0) from outlast_objects") == 0
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 0
    assert await worker_env.message_count("outlast.dead") == 0


async def test_cancelling_ends_a_running_decoder(worker_env, source, slow_picture_url):
    await wait_until_listening(worker_env)
    job = worker_env.job(slow_picture_url, profile=Profile(format=ImageFormat.AVIF))
    await worker_env.send(job)
    decoder = await wait_for_decoding()
    decoder.send_signal(signal.SIGSTOP)  # a stopped process never finishes on its own
    assert await cancel_task(job.task_id, worker_env.records, worker_env.broker)
    await worker_env.wait_for_outcome("cancelled")
    async with asyncio.timeout(WAIT_SECONDS):
        while is_running(decoder):  # the kernel needs a moment to end a process
            await asyncio.sleep(0.02)
    await worker_env.send(
        worker_env.job(f"{source.url}/files/photo.png")
    )  # the pool has only one process, so it must be free again
    await worker_env.wait_for_outcome("completed")


async def test_cancelled_queued_task_is_dropped_and_completed_task_is_kept(worker_env, source):
    done = worker_env.job(f"{source.url}/files/tone.wav")
    await worker_env.send(done)
    await worker_env.wait_for_outcome("completed")
    assert not await cancel_task(done.task_id, worker_env.records, worker_env.broker)
    unknown = worker_env.job(f"{source.url}/files/tone.mp3")
    assert await cancel_task(unknown.task_id, worker_env.records, worker_env.broker)
    await worker_env.send(unknown)
    await worker_env.wait_for_outcome("cancelled")
    assert (await worker_env.task(done))["status"] == "completed"
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 1


async def test_invalid_control_messages_are_ignored(worker_env, source):
    await wait_until_listening(worker_env)
    exchange = await worker_env.channel.get_exchange("outlast.control")
    for body in (b"", b"[]", json.dumps({"do": "explode"}).encode()):
        await exchange.publish(aio_pika.Message(body), "", mandatory=False)
    await send_command(worker_env.broker, Command(do="cancel", task_id=uuid4()))
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("completed")
    assert not worker_env.worker.stop_requested.is_set()
    assert worker_env.outcome_count("cancelled") == 0


async def test_stop_command_stops_only_the_named_worker(worker_env, source):
    await wait_until_listening(worker_env)
    job = worker_env.job(f"{source.url}/files/photo.png?slow=20000")
    await worker_env.send(job)
    await worker_env.wait_until_running()
    await send_command(worker_env.broker, Command(do="stop", worker="somebody else"))
    assert await cancel_task(job.task_id, worker_env.records, worker_env.broker)
    await worker_env.wait_for_outcome(
        "cancelled"
    )  # commands arrive in order, so the stop command has been received too
    assert not worker_env.worker.stop_requested.is_set()
    await send_command(worker_env.broker, Command(do="stop", worker="test-worker"))
    async with asyncio.timeout(WAIT_SECONDS):
        await worker_env.worker.stop_requested.wait()


async def test_worker_receives_commands_again_after_a_reconnect(rabbitmq, worker_env, source):
    await wait_until_listening(worker_env)
    await close_all_connections(rabbitmq)
    async with asyncio.timeout(WAIT_SECONDS):
        while not worker_env.broker.ready:
            await asyncio.sleep(0.05)
    worker_env.channel = await (await aio_pika.connect(worker_env.settings.rabbitmq_url.get_secret_value())).channel()
    await wait_until_listening(worker_env)
    job = worker_env.job(f"{source.url}/files/photo.png?slow=20000")
    await worker_env.send(job)
    await worker_env.wait_until_running()
    await cancel_task(job.task_id, worker_env.records, worker_env.broker)
    await worker_env.wait_for_outcome("cancelled")
    assert worker_env.outcome_count("cancelled") == 1
