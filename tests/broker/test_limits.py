"""Soft time limits, configurable queues, and progress that is written at most once a second."""

import asyncio
import json

import pytest

from handlers.database.task_queries import TaskQueries
from schemas.jobs import Queue
from tests.time_limits import WAIT_SECONDS
from worker.settings import Settings


@pytest.mark.settings(task_soft_timeout_minutes=0.01)
async def test_soft_timeout_starts_no_further_file_and_keeps_finished_ones(worker_env, source):
    slow = f"{source.url}/files/tone.wav?slow=150000"
    others = [f"{source.url}/files/{name}" for name in ("tone.mp3", "clip.mp4")]
    job = worker_env.job(slow, *others, max_concurrent=1)
    before = source.hits["tone.wav"]
    await worker_env.send(job)
    await worker_env.wait_for_outcome("retried")
    task = await worker_env.task(job)
    assert task["status"] == "retrying"
    assert {failure["code"] for failure in json.loads(task["failed"])} == {"soft_timeout"}
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 1
    await worker_env.wait_for_outcome("completed")
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 3
    assert source.hits["tone.wav"] == before + 1


@pytest.mark.settings(worker_queues={Queue.OPTIMIZATION: 1})
async def test_worker_consumes_only_its_configured_queues(worker_env, source):
    mine = worker_env.job(f"{source.url}/files/tone.wav", queue=Queue.OPTIMIZATION)
    others = worker_env.job(f"{source.url}/files/tone.wav")
    await worker_env.send(others)
    await worker_env.send(mine)
    await worker_env.wait_for_outcome("completed", queue="optimization")
    assert await worker_env.message_count("outlast.file_processing") == 1


async def test_slow_background_jobs_do_not_delay_file_processing(worker_env, source):
    for queue in (Queue.BULK, Queue.OPTIMIZATION):
        await worker_env.send(worker_env.job(f"{source.url}/files/photo.png?slow=20000", queue=queue))
    async with asyncio.timeout(WAIT_SECONDS):
        while len(worker_env.worker.attempts) < 2:
            await asyncio.sleep(0.02)
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("completed")
    async with asyncio.timeout(WAIT_SECONDS):
        while len(worker_env.worker.attempts) != 2:  # an attempt is counted just before it ends
            await asyncio.sleep(0.02)


async def test_progress_of_all_tasks_is_written_once_a_second(worker_env, source, monkeypatch):
    written, write = [], TaskQueries.progress

    async def progress(self, items):
        written.append(len(items))
        await write(self, items)

    monkeypatch.setattr(TaskQueries, "progress", progress)
    jobs = [worker_env.job(*(f"{source.url}/files/tone.wav?slow=60000&n={n}" for n in range(3))) for _ in range(2)]
    started = asyncio.get_running_loop().time()
    for job in jobs:
        await worker_env.send(job)
    seen = set()
    async with asyncio.timeout(WAIT_SECONDS):
        while worker_env.outcome_count("completed") < 2:
            seen.add(await worker_env.sql.fetchval("select progress ->> 'downloaded' from outlast_tasks limit 1"))
            await asyncio.sleep(0.05)
    assert len(seen - {None, "0"}) >= 1
    assert 1 <= len(written) <= asyncio.get_running_loop().time() - started + 1
    assert max(written) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [("bulk", "WORKER_QUEUES"), ("file_processing=0", "WORKER_QUEUES"), ("file_processing=many", "WORKER_QUEUES")],
)
def test_invalid_worker_queues_name_the_setting(given, message):
    with pytest.raises(ValueError, match=message):
        Settings.load(worker_queues=given)


def test_each_queue_has_its_own_concurrency():
    assert Settings.load(worker_concurrency=8).queue_concurrency == {
        Queue.FILES: 8,
        Queue.BULK: 2,
        Queue.OPTIMIZATION: 1,
        Queue.MAINTENANCE: 1,
        Queue.WEBHOOKS: 4,
    }
    assert Settings.load(worker_queues="maintenance, optimization=3").queue_concurrency == {
        Queue.MAINTENANCE: 1,
        Queue.OPTIMIZATION: 3,
    }
