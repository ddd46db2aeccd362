"""A real Celery 5 producer, in a separate process, with our worker."""

import asyncio
import contextlib
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from tests.broker.conftest import close_all_connections
from tests.captured_logs import capture_log
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS
from worker.celery_compat.inbox import CeleryInbox

CLIENT = Path(__file__).with_name("celery_client.py")


@contextlib.asynccontextmanager
async def running_inbox(worker_env):
    """Run the worker's Celery inbox, as `outlast worker` does."""
    inbox = CeleryInbox(worker_env.settings, worker_env.broker, worker_env.metrics, worker_env.records)
    running = asyncio.create_task(inbox.run())
    yield
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.fixture
async def inbox(worker_env):
    async with running_inbox(worker_env):
        yield


with_inbox = pytest.mark.usefixtures("inbox")


async def celery(worker_env, **request):
    broker = worker_env.settings.rabbitmq_url.get_secret_value().replace("amqp://", "pyamqp://")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, CLIENT, json.dumps({"broker": broker, **request})), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def files(source, *names, **more):
    urls = [f"{source.url}/files/{name}" for name in names]
    return {"urls": urls, "user_id": str(uuid4()), "generation_id": str(uuid4())} | more


@with_inbox
async def test_celery_get_returns_the_result(worker_env, source):
    result = await celery(worker_env, kwargs=files(source, "photo.png", "tone.wav", task_options={"format": "webp"}))
    assert result["status"] == "SUCCESS"
    assert (result["result"]["successful_files"], result["result"]["total_files"]) == (2, 2)
    assert len(result["result"]["processed_file_ids"]) == 2
    assert await worker_env.sql.fetchval("select count(*) from outlast_files where content_type = 'image/webp'") == 1
    assert await worker_env.sql.fetchval("select source from outlast_tasks") == "celery"


async def test_task_sent_before_any_worker_started_with_positional_arguments_completes(worker_env, source):
    task = files(source, "tone.mp3")
    await celery(worker_env, args=[task["urls"], task["user_id"], task["generation_id"]], forget=True)
    assert await worker_env.message_count("file_processing") == 1
    async with running_inbox(worker_env):
        await worker_env.wait_for_outcome("completed")


@with_inbox
async def test_failed_task_raises_in_the_celery_client(worker_env, source):
    result = await celery(worker_env, kwargs=files(source, "nothing.png?status=410"))
    assert result["raised"] == "FileProcessingError"
    assert "410" in result["message"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"task": "send_mail", "kwargs": {}}, "the task is 'send_mail'"),
        ({"kwargs": {"urls": [], "user_id": "u"}}, "urls"),
        ({"kwargs": {"urls": ["https://fal.media/a"], "user_id": "u", "generation_id": "g", "nice": 1}}, "nice"),
        ({"args": [1, 2, 3, 4, 5]}, "arguments"),
    ],
)
@with_inbox
async def test_invalid_celery_task_raises_and_is_dead_lettered(worker_env, task, message):
    result = await celery(worker_env, **task)
    assert result["raised"] == "FileProcessingError"
    assert message in result["message"]
    assert await worker_env.message_count("outlast.dead") == 1


async def test_expired_celery_task_is_not_started(worker_env, source):
    await celery(worker_env, kwargs=files(source, "tone.wav"), more={"expires": 0.001}, forget=True)
    # The sending process has ended, so the task has expired.
    async with running_inbox(worker_env), asyncio.timeout(WAIT_SECONDS):
        while await worker_env.message_count("file_processing"):
            await asyncio.sleep(0.05)
    assert await worker_env.sql.fetchval("select count(*) from outlast_tasks") == 0


@with_inbox
async def test_celery_countdown_delays_the_task(worker_env, source):
    sent = datetime.now(UTC)
    result = await celery(worker_env, kwargs=files(source, "tone.wav"), more={"countdown": 5})
    assert result["status"] == "SUCCESS"
    assert worker_env.outcome_count("early") >= 1
    assert await worker_env.sql.fetchval("select started_at from outlast_tasks") - sent >= timedelta(seconds=5)


@with_inbox
async def test_cancelled_task_is_revoked_in_the_celery_client(worker_env, source):
    task = files(source, "photo.png?slow=20000")
    waiting = asyncio.create_task(celery(worker_env, kwargs=task))
    await worker_env.wait_until_running()
    task_id = await worker_env.sql.fetchval("select task_id from outlast_tasks")
    await worker_env.sql.execute("select outlast_cancel($1)", task_id)
    await worker_env.worker.renew_leases()
    assert await waiting == {"revoked": "cancelled"}


@with_inbox
async def test_uuid_arguments_are_taken_as_their_text(worker_env, source):
    task = files(source, "tone.wav")
    result = await celery(worker_env, kwargs=task, uuids=True)
    assert result["status"] == "SUCCESS"
    recorded = await worker_env.sql.fetchrow("select user_id, generation_id from outlast_tasks")
    assert dict(recorded) == {name: task[name] for name in ("user_id", "generation_id")}


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "lzma"])
@with_inbox
async def test_compressed_message_is_processed(worker_env, source, compression):
    result = await celery(worker_env, kwargs=files(source, "tone.wav"), more={"compression": compression}, uuids=True)
    assert result["status"] == "SUCCESS"


@with_inbox
async def test_linked_task_is_not_sent_and_the_log_says_so(worker_env, source):
    with capture_log(worker_env.settings) as lines:
        result = await celery(worker_env, kwargs=files(source, "tone.wav"), more={"link": "their.callback"})
    assert result["status"] == "SUCCESS"
    warned = lines.read("Celery tasks that should follow are not sent")
    assert [line["kinds"] for line in warned] == [["callbacks"]]


@with_inbox
async def test_celery_queue_that_was_deleted_is_declared_and_consumed_again(worker_env, source):
    await wait_for_consumer(worker_env)
    await worker_env.channel.queue_delete("file_processing")
    await wait_for_consumer(worker_env)
    result = await celery(worker_env, kwargs=files(source, "tone.wav"))
    assert result["status"] == "SUCCESS"


async def test_inbox_recovers_when_its_queue_is_gone_after_a_reconnect(rabbitmq, worker_env, source):
    """A new broker has no queues; the worker's other connections must not be affected."""
    async with running_inbox(worker_env):
        await wait_for_consumer(worker_env)
        async with await aio_pika.connect(worker_env.settings.rabbitmq_url.get_secret_value()) as connection:
            channel = await connection.channel()
            await channel.queue_delete("file_processing")
            await close_all_connections(rabbitmq)
        await wait_for_consumer(worker_env)
        async with asyncio.timeout(LONG_WAIT_SECONDS):
            while not worker_env.broker.ready:
                await asyncio.sleep(0.05)
        result = await celery(worker_env, kwargs=files(source, "tone.wav"))
        assert result["status"] == "SUCCESS"


async def wait_for_consumer(worker_env):
    """Wait until Celery's queue exists and is consumed."""
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while True:
            async with await aio_pika.connect(worker_env.settings.rabbitmq_url.get_secret_value()) as connection:
                channel = await connection.channel()
                try:
                    declared = await channel.declare_queue("file_processing", passive=True)
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    pass
                else:
                    if declared.declaration_result.consumer_count:
                        return
            await asyncio.sleep(0.1)
