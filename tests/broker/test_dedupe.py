"""Nothing is stored twice, nothing is removed that is needed: counted from outside, on the gateway's disk."""

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
from handlers.storage.orphans import Orphans
from tests.figures import figure
from tests.patience import LONG, SOON
from worker.periodic.maintenance import BACKLOG, call_for

USERS, PICTURES, GENERATIONS = 10, 100, 300
MAINTENANCE = "outlast.maintenance"


def on_disk(bench):
    """The paths of all objects, as files."""
    bucket = bench.gateway_dir / "generations"
    return {str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file()}


@pytest.fixture
def bench(bench, tmp_path):
    bench.gateway_dir = tmp_path / "objects"
    return bench


async def in_storage(bench):
    return {row["name"] for row in await bench.sql.fetch("select name from storage.objects")}


async def referenced(bench):
    return {row["path"] for row in await bench.sql.fetch("select distinct path from outlast_files")}


async def age(bench, days=2):
    await bench.sql.execute("update outlast_objects set updated_at = updated_at - interval '1 day' * $1", days)


async def until(question):
    async with asyncio.timeout(LONG):
        while not await question():
            await asyncio.sleep(0.1)


async def generation(bench, user):
    row = "insert into generations (user_id, status) values ($1, 'completed') returning id::text"
    return await bench.sql.fetchval(row, UUID(int=user))


async def job_of(bench, user, url):
    """A job about one file of a generation that has a row."""
    job = bench.job(url, user_id=str(UUID(int=user)), generation_id=await generation(bench, user))
    return job.model_copy(update={"task_id": UUID(job.generation_id)})


@contextlib.asynccontextmanager
async def workers(bench, count, allow):
    settings = bench.settings
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
    """A hundred distinct pictures, each smaller as a JPEG."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(5)
    for number in range(PICTURES):
        pixels = noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        picture = pyvips.Image.new_from_memory(pixels.tobytes(), 16, 16, 3, "uchar").resize(6)
        picture.copy(interpretation="srgb").pngsave(str(folder / f"{number}.png"))
    return folder


async def test_three_workers_store_each_users_picture_once_and_keep_what_is_needed(bench, pictures):
    await bench.pause()
    plan = [(number % USERS, number % PICTURES) for number in range(GENERATIONS // 3)]
    plan += [(user + shift, picture) for shift in (0, 1) for user, picture in plan]
    pairs = {(user % USERS, picture) for user, picture in plan}
    random.Random(3).shuffle(plan)  # noqa: S311 - any order will do
    plan.sort(key=lambda pair: pair[1] // 10)  # the same bytes come close together, so that workers race
    async with Source(pictures) as fal:
        for user, picture in plan:
            await bench.send(await job_of(bench, user % USERS, f"{fal.url}/files/{picture}.png"))
        async with workers(bench, 3, fal.url):

            async def all_done():
                done = "select count(*) = $1 from outlast_tasks where status = 'completed'"
                return await bench.sql.fetchval(done, GENERATIONS)

            await until(all_done)
            used = await bench.sql.fetchval("select count(distinct worker) from outlast_tasks")
            assert (len(plan), len(pairs), used) == (300, 200, 3)
            assert len(on_disk(bench)) == 200
            assert on_disk(bench) == await in_storage(bench) == await referenced(bench)
            assert await bench.sql.fetchval("select sum(refs) from outlast_objects") == GENERATIONS

            await bench.sql.execute("delete from generations where ctid in (select ctid from generations limit 140)")
            await call_for("remove_orphans", bench.broker)

            async def files_released():
                return await bench.sql.fetchval("select count(*) = 160 from outlast_files")

            await until(files_released)
            assert len(on_disk(bench)) == 200, "spared for the grace time"
            await age(bench)
            await call_for("remove_orphans", bench.broker)

            async def rows_gone():
                return not await bench.sql.fetchval("select count(*) from outlast_objects where refs = 0")

            await until(rows_gone)
    require = await referenced(bench)
    assert 100 < len(require) < 200
    assert on_disk(bench) == await in_storage(bench) == require
    media = await bench.sql.fetch("select media -> 0 ->> 'path' as path from generations")
    assert (len(media), {row["path"] for row in media}) == (160, require)


async def test_what_is_known_is_neither_decoded_nor_uploaded_again(bench, source):
    for count in (1, 2, 3):
        await bench.send(await job_of(bench, 1, f"{source.url}/files/photo.png?version={count}"))
        await bench.outcome("completed", count)

    def steps(name):
        samples = bench.metrics.stage_duration.labels(name).collect()[0].samples
        return next(sample.value for sample in samples if sample.name.endswith("_count"))

    assert (steps("download"), steps("prepare"), steps("upload")) == (3, 1, 1)
    assert [row["refs"] for row in await bench.sql.fetch("select refs from outlast_objects")] == [3]
    assert await bench.sql.fetchval("select count(*) from outlast_files where deduplicated") == 2


async def test_a_hit_whose_object_vanished_is_stored_again(bench, source):
    await bench.send(await job_of(bench, 1, f"{source.url}/files/tone.wav"))
    await bench.outcome("completed")
    before = on_disk(bench)
    await bench.parts.supabase.remove([*before, "u/never-there"])
    assert on_disk(bench) == set()
    await bench.send(await job_of(bench, 1, f"{source.url}/files/tone.wav"))
    await bench.outcome("completed", 2)
    assert on_disk(bench) == before


async def test_what_was_stored_and_never_recorded_goes_after_the_grace_time(bench, source):
    """Cancelled between upload and finish, as good as killed: nothing was recorded but the claim."""
    await bench.sql.execute("alter function outlast_finish rename to away")
    job = await job_of(bench, 1, f"{source.url}/files/tone.wav")
    await bench.send(job)

    async def uploaded():
        return on_disk(bench)

    await until(uploaded)
    await bench.sql.execute("select outlast_cancel($1)", job.task_id)
    await bench.sql.execute("alter function away rename to outlast_finish")
    await bench.outcome("cancelled")
    orphans = orphans_of(bench)
    assert (await orphans.remove(60)).objects == 0
    await age(bench)
    assert await orphans.count() == 1
    assert (await orphans.remove(60)).objects == 1
    assert on_disk(bench) == set()
    assert await bench.sql.fetchval("select count(*) from outlast_objects") == 0


async def test_while_an_object_is_removed_its_bytes_wait_and_are_stored_again(bench, source, tmp_path):
    await bench.send(await job_of(bench, 1, f"{source.url}/files/tone.wav"))
    await bench.outcome("completed")
    path = on_disk(bench)
    await bench.sql.execute("delete from outlast_files")
    await age(bench)
    stuck = Stuck(tmp_path, "generations")
    removal = asyncio.create_task(orphans_of(bench, stuck).remove(60))
    await stuck.asked.wait()
    await bench.send(await job_of(bench, 1, f"{source.url}/files/tone.wav"))
    await bench.outcome("retried")
    assert figure(bench.metrics.retries.labels("storage_unavailable")) == 1
    removal.cancel()  # dead between mark and removal; another one takes it up
    await asyncio.gather(removal, return_exceptions=True)
    await age(bench, days=0.01)
    assert (await orphans_of(bench).remove(60)).objects == 1
    await bench.outcome("completed", 2)
    assert on_disk(bench) == path


class Stuck(FolderStorage):
    """A Storage that never answers."""

    def __init__(self, folder, bucket):
        super().__init__(folder, bucket)
        self.asked = asyncio.Event()

    async def remove(self, paths):
        assert paths
        self.asked.set()
        await asyncio.Event().wait()


def orphans_of(bench, storage=None):
    supabase = bench.parts.supabase
    return Orphans(ObjectRecords(supabase), storage or supabase, bench.settings.orphan_grace_seconds)


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"action": "paint", "slot": "2026-11-01T00:00:00Z"}, "outlast.maintenance.v1", "undecodable"),
        ({"action": "remove_orphans", "slot": "2026-11-01T00:00:00Z"}, "outlast.maintenance.v2", "newer_version"),
    ],
)
async def test_upkeep_nobody_knows_is_buried_as_it_is(bench, body, kind, code):
    exchange = await bench.channel.get_exchange("outlast")
    await exchange.publish(Message(json.dumps(body).encode(), type=kind, message_id="m"), "maintenance")
    await bench.outcome("undecodable", queue="maintenance")
    letter = await bench.take("outlast.dead")
    assert (json.loads(letter.body), letter.type, letter.routing_key) == (body, kind, "maintenance")
    assert letter.headers["x-outlast-error-code"] == code


async def test_upkeep_that_cannot_be_done_is_left_to_the_next_slot(bench):
    await bench.sql.execute("alter function outlast_release rename to away")
    await call_for("remove_orphans", bench.broker)
    await bench.outcome("failed", queue="maintenance")
    await bench.sql.execute("alter function away rename to outlast_release")
    await call_for("remove_orphans", bench.broker)
    await bench.outcome("completed", queue="maintenance")
    assert await bench.waiting("outlast.dead") == await bench.waiting(MAINTENANCE) == 0


async def test_calls_for_upkeep_do_not_pile_up_and_a_stopping_worker_gives_it_back(bench):
    await bench.sql.execute("create table held ()")
    await bench.sql.execute(
        "create or replace function outlast_release(p_grace_seconds int, p_limit int default 200) returns jsonb "
        'language plpgsql as $$ begin lock table held; return \'{"files": 0, "more": false}\'; end $$'
    )
    async with bench.sql.transaction():
        await bench.sql.execute("lock table held")
        await call_for("remove_orphans", bench.broker)
        async with asyncio.timeout(SOON):
            while not bench.worker.attempts:
                await asyncio.sleep(0.02)
        await bench.worker.stop(0)
    assert bench.ended("handed_back", "maintenance") == 1
    for _ in range(BACKLOG + 2):
        await call_for("remove_orphans", bench.broker)
    assert await bench.waiting(MAINTENANCE) == BACKLOG
