"""Cancelling, over the control exchange: at once, everywhere, with nothing left behind."""

import asyncio
import json
import signal
from uuid import uuid4

import aio_pika
import pytest
import pyvips

from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.codec_bench import decoding, lives
from tests.patience import SOON
from worker.broker.broadcast import Command, cancel, tell
from worker.consume import worker


@pytest.fixture(scope="module")
def heavy(source):
    """A picture that takes seconds to encode."""
    noise = pyvips.Image.gaussnoise(3000, 3000, sigma=80, mean=128).cast("uchar")
    noise.bandjoin([noise.rot90(), noise.rot180()]).copy(interpretation="srgb").pngsave(
        str(source.folder / "heavy.png"), compression=1
    )
    return f"{source.url}/files/heavy.png"


async def listened_to(bench):
    """Wait until the worker hears commands."""
    exchange = await bench.channel.get_exchange("outlast.control")
    async with asyncio.timeout(SOON):
        while True:
            try:
                await exchange.publish(aio_pika.Message(b"?"), "", mandatory=True)
            except aio_pika.exceptions.PublishError:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.fixture
def no_heartbeat(monkeypatch):
    """A worker would hear of a cancelled task by its next heartbeat, too: keep it from one."""
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 600)


@pytest.mark.usefixtures("no_heartbeat")
async def test_a_running_download_is_cancelled_without_waiting_for_a_heartbeat(bench, source, tmp_path):
    await listened_to(bench)
    job = bench.job(f"{source.url}/files/tone.wav", f"{source.url}/files/photo.png?slow=20000")
    await bench.send(job)
    async with asyncio.timeout(SOON):
        while not list(tmp_path.glob("outlast-*/*")):
            await asyncio.sleep(0.01)
    assert await cancel(job.task_id, bench.records, bench.broker)
    await bench.outcome("cancelled")
    assert list(tmp_path.glob("outlast-*")) == []
    task = await bench.task(job)
    assert task["status"] == "cancelled"
    assert await bench.sql.fetchval("select coalesce(sum(refs), 0) from outlast_objects") == 0
    assert await bench.sql.fetchval("select count(*) from outlast_files") == 0
    assert await bench.waiting("outlast.dead") == 0


async def test_a_running_decoder_is_freed(bench, source, heavy):
    await listened_to(bench)
    job = bench.job(heavy, profile=Profile(format=ImageFormat.AVIF))
    await bench.send(job)
    codec = bench.worker._context.deps.codec
    decoder = await decoding(codec)
    decoder.send_signal(signal.SIGSTOP)  # it will not come to an end by itself
    assert await cancel(job.task_id, bench.records, bench.broker)
    await bench.outcome("cancelled")
    async with asyncio.timeout(SOON):
        while lives(decoder) or codec.stats().processes["busy"]:  # the kernel takes a moment to end a process
            await asyncio.sleep(0.02)
    await bench.send(bench.job(f"{source.url}/files/photo.png"))  # the pool has one process: it must be free
    await bench.outcome("completed")


async def test_what_is_queued_is_dropped_on_delivery_and_what_ended_stays(bench, source):
    done = bench.job(f"{source.url}/files/tone.wav")
    await bench.send(done)
    await bench.outcome("completed")
    assert not await cancel(done.task_id, bench.records, bench.broker)
    unknown = bench.job(f"{source.url}/files/tone.mp3")
    assert await cancel(unknown.task_id, bench.records, bench.broker)
    await bench.send(unknown)
    await bench.outcome("cancelled")
    assert (await bench.task(done))["status"] == "completed"
    assert await bench.sql.fetchval("select count(*) from outlast_files") == 1


async def test_nonsense_on_the_control_exchange_harms_nobody(bench, source):
    await listened_to(bench)
    exchange = await bench.channel.get_exchange("outlast.control")
    for body in (b"", b"[]", json.dumps({"do": "explode"}).encode()):
        await exchange.publish(aio_pika.Message(body), "", mandatory=False)
    await tell(bench.broker, Command(do="cancel", task_id=uuid4()))
    await bench.send(bench.job(f"{source.url}/files/tone.wav"))
    await bench.outcome("completed")


async def test_a_worker_told_to_stop_stops_and_others_do_not(bench, source):
    await listened_to(bench)
    job = bench.job(f"{source.url}/files/photo.png?slow=20000")
    await bench.send(job)
    await bench.running()
    await tell(bench.broker, Command(do="stop", worker="somebody else"))
    assert await cancel(job.task_id, bench.records, bench.broker)
    await bench.outcome("cancelled")  # so what was published before has been heard, too
    assert not bench.worker.stop_requested.is_set()
    await tell(bench.broker, Command(do="stop", worker="bench"))
    async with asyncio.timeout(SOON):
        await bench.worker.stop_requested.wait()


async def test_after_the_broker_cut_its_connection_a_worker_hears_again(rabbitmq, bench, source):
    await listened_to(bench)
    await rabbitmq.control("close_all_connections", "test")
    async with asyncio.timeout(SOON):
        while not bench.broker.ready:
            await asyncio.sleep(0.05)
    bench.channel = await (await aio_pika.connect(bench.settings.rabbitmq_url.get_secret_value())).channel()
    await listened_to(bench)
    job = bench.job(f"{source.url}/files/photo.png?slow=20000")
    await bench.send(job)
    await bench.running()
    await cancel(job.task_id, bench.records, bench.broker)
    await bench.outcome("cancelled")
    assert bench.ended("cancelled") == 1
