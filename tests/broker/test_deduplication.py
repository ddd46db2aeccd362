"""Each content is stored once and only orphans are removed; checked on the gateway's disk and in its tables."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from uuid import UUID

import numpy as np
import pytest
import pyvips
from aio_pika import Message

from deploy.local.source import Source
from handlers.database.object_records import ObjectRecords
from handlers.storage import FolderStorage
from handlers.storage.orphans import OrphanRemover
from tests.metric_values import metric_value
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS
from worker.periodic.maintenance import MAX_WAITING, enqueue_maintenance

USERS, PICTURES, GENERATIONS = 10, 100, 300
MAINTENANCE = "outlast.maintenance"


def stored_paths(worker_env):
    """The paths of all stored objects on disk."""
    bucket = worker_env.gateway_dir / "generations"
    return {str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file()}


@pytest.fixture
def worker_env(worker_env, tmp_path):
    worker_env.gateway_dir = tmp_path / "objects"
    return worker_env


async def storage_names(worker_env):
    return {row["name"] for row in await worker_env.sql.fetch("select name from storage.objects")}


async def referenced_paths(worker_env):
    return {row["path"] for row in await worker_env.sql.fetch("select distinct path from outlast_files")}


async def age_objects(worker_env, days=2):
    await worker_env.sql.execute("update outlast_objects set updated_at = updated_at - interval '1 day' * $1", days)


async def wait_until(question):
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while not await question():
            await asyncio.sleep(0.1)


async def generation(worker_env, user):
    row = "insert into generations (user_id, status) values ($1, 'completed') returning id::text"
    return await worker_env.sql.fetchval(row, UUID(int=user))


async def job_of(worker_env, user, url):
    """A job with one file, for a generation that has a row."""
    job = worker_env.job(url, user_id=str(UUID(int=user)), generation_id=await generation(worker_env, user))
    return job.model_copy(update={"task_id": UUID(job.generation_id)})


@contextlib.asynccontextmanager
async def workers(worker_env, count, allow):
    settings = worker_env.settings
    env = os.environ | {
        "RABBITMQ_URL": settings.rabbitmq_url.get_secret_value(),
        "SUPABASE_URL": settings.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": settings.supabase_service_role_key.get_secret_value(),
        "SOURCE_ALLOWLIST": allow,
        "TEMP_DIR": str(settings.temp_dir),
        "RETRY_DELAYS": "1,2",
        "METRICS_PORT": "0",
        "CODEC_PROCESSES": "1",
    }
    command = (sys.executable, "-m", "worker", "worker")
    running = [await asyncio.create_subprocess_exec(*command, env=env, stderr=-3) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        assert [await process.wait() for process in running] == [0] * count


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of a hundred different pictures, each smaller as a JPEG."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(5)
    for number in range(PICTURES):
        pixels = noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        picture = pyvips.Image.new_from_memory(pixels.tobytes(), 16, 16, 3, "uchar").resize(6)
        picture.copy(interpretation="srgb").pngsave(str(folder / f"{number}.png"))
    return folder


async def test_three_workers_store_each_users_image_once_and_remove_only_orphans(worker_env, pictures):
    await worker_env.pause()
    plan = [(number % USERS, number % PICTURES) for number in range(GENERATIONS // 3)]
    plan += [(user + shift, picture) for shift in (0, 1) for user, picture in plan]
    pairs = {(user % USERS, picture) for user, picture in plan}
    random.Random(3).shuffle(plan)  # noqa: S311 - the order does not matter
    plan.sort(key=lambda pair: pair[1] // 10)  # equal bytes are close together, so that workers race
    async with Source(pictures) as fal:
        for user, picture in plan:
            await worker_env.send(await job_of(worker_env, user % USERS, f"{fal.url}/files/{picture}.png"))
        async with workers(worker_env, 3, fal.url):

            async def all_done():
                done = "select count(*) = $1 from outlast_tasks where status = 'completed'"
                return await worker_env.sql.fetchval(done, GENERATIONS)

            await wait_until(all_done)
            used = await worker_env.sql.fetchval("select count(distinct worker) from outlast_tasks")
            assert (len(plan), len(pairs), used) == (300, 200, 3)
            assert len(stored_paths(worker_env)) == 200
            assert stored_paths(worker_env) == await storage_names(worker_env) == await referenced_paths(worker_env)
            assert await worker_env.sql.fetchval("select sum(refs) from outlast_objects") == GENERATIONS

            await worker_env.sql.execute(
                "delete from generations where ctid in (select ctid from generations limit 140)"
            )
            await enqueue_maintenance("remove_orphans", worker_env.broker)

            async def files_released():
                return await worker_env.sql.fetchval("select count(*) = 160 from outlast_files")

            await wait_until(files_released)
            assert len(stored_paths(worker_env)) == 200, "kept for the grace time"
            await age_objects(worker_env)
            await enqueue_maintenance("remove_orphans", worker_env.broker)

            async def rows_gone():
                return not await worker_env.sql.fetchval("select count(*) from outlast_objects where refs = 0")

            await wait_until(rows_gone)
    require = await referenced_paths(worker_env)
    assert 100 < len(require) < 200
    assert stored_paths(worker_env) == await storage_names(worker_env) == require
    media = await worker_env.sql.fetch("select media -> 0 ->> 'path' as path from generations")
    assert (len(media), {row["path"] for row in media}) == (160, require)


async def test_duplicate_is_neither_decoded_nor_uploaded(worker_env, source):
    for count in (1, 2, 3):
        await worker_env.send(await job_of(worker_env, 1, f"{source.url}/files/photo.png?version={count}"))
        await worker_env.wait_for_outcome("completed", count)

    def steps(name):
        samples = worker_env.metrics.stage_duration.labels(name).collect()[0].samples
        return next(sample.value for sample in samples if sample.name.endswith("_count"))

    assert (steps("download"), steps("prepare"), steps("upload")) == (3, 1, 1)
    assert [row["refs"] for row in await worker_env.sql.fetch("select refs from outlast_objects")] == [3]
    assert await worker_env.sql.fetchval("select count(*) from outlast_files where deduplicated") == 2


async def test_duplicate_whose_object_is_missing_is_stored_again(worker_env, source):
    await worker_env.send(await job_of(worker_env, 1, f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("completed")
    before = stored_paths(worker_env)
    await worker_env.parts.supabase.remove([*before, "u/never-there"])
    assert stored_paths(worker_env) == set()
    await worker_env.send(await job_of(worker_env, 1, f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("completed", 2)
    assert stored_paths(worker_env) == before


async def test_uploaded_but_unrecorded_object_is_removed_after_the_grace_time(worker_env, source):
    """Cancelling between upload and finish has the effect of a kill: only the claim is recorded."""
    await worker_env.sql.execute("alter function outlast_finish rename to away")
    job = await job_of(worker_env, 1, f"{source.url}/files/tone.wav")
    await worker_env.send(job)

    async def uploaded():
        return stored_paths(worker_env)

    await wait_until(uploaded)
    await worker_env.sql.execute("select outlast_cancel($1)", job.task_id)
    await worker_env.sql.execute("alter function away rename to outlast_finish")
    await worker_env.wait_for_outcome("cancelled")
    orphans = orphan_remover(worker_env)
    assert (await orphans.remove(60)).objects == 0
    await age_objects(worker_env)
    assert await orphans.count() == 1
    assert (await orphans.remove(60)).objects == 1
    assert stored_paths(worker_env) == set()
    assert await worker_env.sql.fetchval("select count(*) from outlast_objects") == 0


async def test_file_whose_object_is_being_removed_is_retried_and_stored_again(worker_env, source, tmp_path):
    await worker_env.send(await job_of(worker_env, 1, f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("completed")
    path = stored_paths(worker_env)
    await worker_env.sql.execute("delete from outlast_files")
    await age_objects(worker_env)
    stuck = BlockedStorage(tmp_path, "generations")
    removal = asyncio.create_task(orphan_remover(worker_env, stuck).remove(60))
    await stuck.called.wait()
    await worker_env.send(await job_of(worker_env, 1, f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("retried")
    assert metric_value(worker_env.metrics.retries.labels("storage_unavailable")) == 1
    removal.cancel()  # a crash between mark and removal; the next removal finishes it
    await asyncio.gather(removal, return_exceptions=True)
    await age_objects(worker_env, days=0.01)
    assert (await orphan_remover(worker_env).remove(60)).objects == 1
    await worker_env.wait_for_outcome("completed", 2)
    assert stored_paths(worker_env) == path


class BlockedStorage(FolderStorage):
    """A storage whose `remove` never returns."""

    def __init__(self, folder, bucket):
        super().__init__(folder, bucket)
        self.called = asyncio.Event()

    def in_bucket(self, bucket):
        assert bucket == self.bucket
        return self

    async def remove(self, paths):
        assert paths
        self.called.set()
        await asyncio.Event().wait()


def orphan_remover(worker_env, storage=None):
    supabase = worker_env.parts.supabase
    return OrphanRemover(ObjectRecords(supabase), storage or supabase, worker_env.settings.orphan_grace_seconds)


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"action": "paint", "slot": "2026-11-01T00:00:00Z"}, "outlast.maintenance.v1", "undecodable"),
        ({"action": "remove_orphans", "slot": "2026-11-01T00:00:00Z"}, "outlast.maintenance.v2", "newer_version"),
    ],
)
async def test_unknown_maintenance_message_is_dead_lettered_unchanged(worker_env, body, kind, code):
    exchange = await worker_env.channel.get_exchange("outlast")
    await exchange.publish(Message(json.dumps(body).encode(), type=kind, message_id="m"), "maintenance")
    await worker_env.wait_for_outcome("undecodable", queue="maintenance")
    letter = await worker_env.take_message("outlast.dead")
    assert (json.loads(letter.body), letter.type, letter.routing_key) == (body, kind, "maintenance")
    assert letter.headers["x-outlast-error-code"] == code


async def test_failed_maintenance_is_left_to_the_next_slot(worker_env):
    await worker_env.sql.execute("alter function outlast_release rename to away")
    await enqueue_maintenance("remove_orphans", worker_env.broker)
    await worker_env.wait_for_outcome("failed", queue="maintenance")
    await worker_env.sql.execute("alter function away rename to outlast_release")
    await enqueue_maintenance("remove_orphans", worker_env.broker)
    await worker_env.wait_for_outcome("completed", queue="maintenance")
    assert await worker_env.message_count("outlast.dead") == await worker_env.message_count(MAINTENANCE) == 0


async def test_maintenance_messages_are_bounded_and_requeued_by_a_stopping_worker(worker_env):
    await worker_env.sql.execute("create table held ()")
    await worker_env.sql.execute(
        "create or replace function outlast_release(p_grace_seconds int, p_limit int default 200) returns jsonb "
        'language plpgsql as $$ begin lock table held; return \'{"files": 0, "more": false}\'; end $$'
    )
    async with worker_env.sql.transaction():
        await worker_env.sql.execute("lock table held")
        await enqueue_maintenance("remove_orphans", worker_env.broker)
        async with asyncio.timeout(WAIT_SECONDS):
            while not worker_env.worker.attempts:
                await asyncio.sleep(0.02)
        await worker_env.worker.stop(0)
    assert worker_env.outcome_count("requeued", "maintenance") == 1
    for _ in range(MAX_WAITING + 2):
        await enqueue_maintenance("remove_orphans", worker_env.broker)
    assert await worker_env.message_count(MAINTENANCE) == MAX_WAITING
