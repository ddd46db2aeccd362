"""The schedule: once a slot however many workers there are, what was missed made up for once; and its chores."""

import asyncio
import contextlib
from uuid import uuid4

from handlers.database.reconcile_records import ReconcileRecords
from tests.patience import SOON
from worker.periodic.maintenance import call_for
from worker.periodic.schedule import Slot, keep


@contextlib.asynccontextmanager
async def workers(bench, *schedule, number=3):
    reconcile_records = ReconcileRecords(bench.parts.supabase)
    running = [asyncio.create_task(keep(schedule, reconcile_records, f"w{n}")) for n in range(number)]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_each_slot_is_one_workers(bench):
    done = []

    async def once():
        done.append(asyncio.get_running_loop().time())

    started = asyncio.get_running_loop().time()
    async with workers(bench, Slot("often", 1.0, once)), asyncio.timeout(SOON):
        while len(done) < 3:
            await asyncio.sleep(0.05)
    slots = asyncio.get_running_loop().time() - started
    assert len(done) <= slots + 1


async def test_slots_missed_while_nobody_was_there_are_made_up_for_once(bench):
    reconcile_records, done = ReconcileRecords(bench.parts.supabase), []
    assert await reconcile_records.turn("rare", 2, "w")
    assert not await reconcile_records.turn("rare", 2, "v")
    await bench.sql.execute("update outlast_turns set next_at = now() - interval '10 hours' where name = 'rare'")

    async def once():
        done.append(1)

    async with workers(bench, Slot("rare", 2.0, once)), asyncio.timeout(SOON):
        while not done:
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
    assert len(done) == 1


async def test_what_fails_or_crashes_is_tried_again_in_the_next_slot(bench):
    done = []

    async def once():
        done.append(1)
        if len(done) == 1:
            raise RuntimeError("planted")

    async with workers(bench, Slot("weak", 1.0, once), Slot("never", 0, once), number=1), asyncio.timeout(SOON):
        while len(done) < 2:
            await asyncio.sleep(0.05)


async def test_old_tasks_are_expired_but_not_while_the_sweep_would_miss_them(bench, source):
    kept, told, cancelled = (bench.job(f"{source.url}/files/tone.wav", generation_id=str(uuid4())) for _ in range(3))
    for job in (kept, told):
        await bench.send(job)
    await bench.outcome("completed", count=2)
    await bench.sql.execute(
        "insert into generations (id, status, output) values ($1, 'completed', '{}')", cancelled.generation_id
    )
    await bench.records.cancel(cancelled.task_id)
    await bench.sql.execute(
        "update outlast_tasks set generation_id = $1 where status = 'cancelled'", cancelled.generation_id
    )
    await bench.sql.execute(
        "update outlast_tasks set finished_at = now() - interval '31 days' where task_id <> $1", kept.task_id
    )
    await call_for("expire", bench.broker)
    await bench.outcome("completed", queue="maintenance")
    left = {row["task_id"] for row in await bench.sql.fetch("select task_id from outlast_tasks")}
    assert left == {kept.task_id, cancelled.task_id}
    assert await bench.sql.fetchval("select count(*) from outlast_files") == 2


async def test_images_of_another_profile_are_stored_anew_in_the_background(bench, source):
    await bench.send(
        bench.job(f"{source.url}/files/photo.png", profile=bench.settings.profile.model_copy(update={"quality": 99}))
    )
    await bench.outcome("completed")
    before = await bench.sql.fetchval("select file_size from outlast_files")
    await call_for("optimize", bench.broker)
    await bench.outcome("completed", queue="optimization")
    row = await bench.sql.fetchrow("select file_size, profile from outlast_files")
    assert row["profile"] == bench.settings.profile.key
    assert row["file_size"] < before
