"""The schedule runs each slot on one worker and missed slots once; and the scheduled jobs themselves."""

import asyncio
import contextlib
from uuid import uuid4

from handlers.database.reconcile_records import ReconcileRecords
from tests.time_limits import WAIT_SECONDS
from worker.periodic.maintenance import enqueue_maintenance
from worker.periodic.schedule import Slot, run_schedule


@contextlib.asynccontextmanager
async def workers(worker_env, *schedule, number=3):
    reconcile_records = ReconcileRecords(worker_env.parts.supabase)
    running = [asyncio.create_task(run_schedule(schedule, reconcile_records, f"w{n}")) for n in range(number)]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_each_slot_runs_on_one_worker(worker_env):
    done = []

    async def once():
        done.append(asyncio.get_running_loop().time())

    started = asyncio.get_running_loop().time()
    async with workers(worker_env, Slot("often", 1.0, once)), asyncio.timeout(WAIT_SECONDS):
        while len(done) < 3:
            await asyncio.sleep(0.05)
    slots = asyncio.get_running_loop().time() - started
    assert len(done) <= slots + 1


async def test_missed_slots_run_once(worker_env):
    reconcile_records, done = ReconcileRecords(worker_env.parts.supabase), []
    assert await reconcile_records.claim_slot("rare", 2, "w")
    assert not await reconcile_records.claim_slot("rare", 2, "v")
    await worker_env.sql.execute("update outlast_turns set next_at = now() - interval '10 hours' where name = 'rare'")

    async def once():
        done.append(1)

    async with workers(worker_env, Slot("rare", 2.0, once)), asyncio.timeout(WAIT_SECONDS):
        while not done:
            await asyncio.sleep(0.05)
        assert await worker_env.sql.fetchval("select next_at > now() from outlast_turns where name = 'rare'")
    assert len(done) == 1


async def test_failed_job_runs_again_in_the_next_slot(worker_env):
    done = []

    async def once():
        done.append(1)
        if len(done) == 1:
            raise RuntimeError("planted")

    async with (
        workers(worker_env, Slot("weak", 1.0, once), Slot("never", 0, once), number=1),
        asyncio.timeout(WAIT_SECONDS),
    ):
        while len(done) < 2:
            await asyncio.sleep(0.05)
    assert await worker_env.sql.fetchval("select array_agg(name) from outlast_turns") == ["weak"]


async def test_old_tasks_are_deleted_unless_the_sweep_needs_them(worker_env, source):
    kept, expired, cancelled = (
        worker_env.job(f"{source.url}/files/tone.wav", generation_id=str(uuid4())) for _ in range(3)
    )
    for job in (kept, expired):
        await worker_env.send(job)
    await worker_env.wait_for_outcome("completed", count=2)
    await worker_env.sql.execute(
        "insert into generations (id, status, output) values ($1, 'completed', '{}')", cancelled.generation_id
    )
    await worker_env.records.cancel(cancelled.task_id)
    await worker_env.sql.execute(
        "update outlast_tasks set generation_id = $1 where status = 'cancelled'", cancelled.generation_id
    )
    await worker_env.sql.execute(
        "update outlast_tasks set finished_at = now() - interval '31 days' where task_id <> $1", kept.task_id
    )
    await enqueue_maintenance("expire", worker_env.broker)
    await worker_env.wait_for_outcome("completed", queue="maintenance")
    left = {row["task_id"] for row in await worker_env.sql.fetch("select task_id from outlast_tasks")}
    assert left == {kept.task_id, cancelled.task_id}
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 2


async def test_images_of_another_profile_are_optimized_in_the_background(worker_env, source):
    await worker_env.send(
        worker_env.job(
            f"{source.url}/files/photo.png", profile=worker_env.settings.profile.model_copy(update={"quality": 99})
        )
    )
    await worker_env.wait_for_outcome("completed")
    before = await worker_env.sql.fetchval("select file_size from outlast_files")
    await enqueue_maintenance("optimize", worker_env.broker)
    await worker_env.wait_for_outcome("completed", queue="optimization")
    row = await worker_env.sql.fetchrow("select file_size, profile from outlast_files")
    assert row["profile"] == worker_env.settings.profile.key
    assert row["file_size"] < before
