"""The sweep finds what webhooks lost, and leaves alone what ended, what runs and what it has found before."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from handlers.database.reconcile_records import ReconcileRecords
from schemas.events import Completed
from tests.figures import figure
from tests.patience import SOON
from worker.broker.connection import BrokerUnavailableError
from worker.periodic.reconcile import BACKLOG
from worker.periodic.schedule import keep, slots
from worker.periodic.sweep_job import KilledTaskReaper, SweepJob


async def generation(bench, output, **more):
    """A completed generation whose webhook nobody sent."""
    row = {"status": "completed", "output": json.dumps(output), "user_id": str(uuid4()), "request_id": None} | more
    return str(
        await bench.sql.fetchval(
            "insert into generations (status, output, user_id, request_id) values ($1, $2::jsonb, $3, $4) returning id",
            row["status"],
            row["output"],
            UUID(row["user_id"]),
            row["request_id"],
        )
    )


async def media(bench, generation_id):
    row = await bench.sql.fetchrow("select media, media_status from generations where id = $1", UUID(generation_id))
    return row["media_status"], json.loads(row["media"] or "[]")


async def test_what_a_lost_webhook_dropped_comes_back(bench, source):
    lost = await generation(
        bench, {"images": [{"url": f"{source.url}/files/photo.png"}], "audio": f"{source.url}/files/tone.wav"}
    )
    swept = await bench.parts.reconciler.sweep()
    assert (swept.found, swept.enqueued) == ({"no_task": 1}, 1)
    assert figure(bench.metrics.unreconciled_generations) == 1
    async with asyncio.timeout(SOON):
        while (await media(bench, lost))[0] != "completed":
            await asyncio.sleep(0.05)
    assert [file["content_type"] for file in (await media(bench, lost))[1]] == ["audio/wav", "image/jpeg"]
    again = await bench.parts.reconciler.sweep()
    assert (again.found.total(), again.enqueued) == (0, 0)
    assert figure(bench.metrics.unreconciled_generations) == 0
    assert bench.ended("completed", "file_processing.bulk") == 1


async def test_a_find_is_on_record_at_once_so_that_it_is_found_once(bench, source):
    await bench.pause()
    await generation(bench, {"url": f"{source.url}/files/tone.wav"})
    first, second = await bench.parts.reconciler.sweep(), await bench.parts.reconciler.sweep()
    assert (first.enqueued, second.enqueued) == (1, 0)
    assert await bench.waiting("outlast.file_processing.bulk") == 1


async def test_a_large_event_half_of_which_was_published_is_completed(bench, source):
    output = [{"url": f"{source.url}/files/tone.wav?n={n}"} for n in range(12)]  # MAX_BATCH_SIZE is 10
    half = await generation(bench, output)
    jobs = list(bench.parts.reconciler._jobs(await only(bench)))
    assert [len(job.files) for job in jobs] == [10, 2]
    await bench.send(jobs[0])
    await bench.outcome("completed", queue="file_processing.bulk")
    assert (await media(bench, half))[0] == "pending"
    await age_everything(bench)
    swept = await bench.parts.reconciler.sweep()
    assert (swept.found, swept.enqueued) == ({"incomplete": 1}, 1)
    async with asyncio.timeout(SOON):
        while (await media(bench, half))[0] != "completed":
            await asyncio.sleep(0.05)
    assert len((await media(bench, half))[1]) == 12


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
async def test_what_ended_stays_ended(bench, source, ending):
    output = [{"url": f"{source.url}/files/nothing-{n}.png"} for n in range(12)]
    await generation(bench, output)
    jobs = list(bench.parts.reconciler._jobs(await only(bench)))
    for job in jobs:
        if ending == "cancelled":
            await bench.records.cancel(job.task_id)
        await bench.send(job)
    await bench.outcome(ending, count=2, queue="file_processing.bulk")
    await age_everything(bench)
    swept = await bench.parts.reconciler.sweep()
    assert (swept.found.total(), swept.enqueued, swept.ended) == (0, 0, 0)


async def test_a_task_that_stands_still_gets_a_message_again(bench, source):
    stuck = await generation(bench, {"url": f"{source.url}/files/tone.wav"})
    [job] = bench.parts.reconciler._jobs(await only(bench))
    await bench.records.begin(job, uuid4(), "a worker that died", 1)  # and its message went with the broker's disk
    await age_everything(bench)
    swept = await bench.parts.reconciler.sweep()
    assert (swept.found, swept.enqueued) == ({"idle": 1}, 1)
    async with asyncio.timeout(SOON):
        while (await media(bench, stuck))[0] != "completed":
            await asyncio.sleep(0.05)


async def test_a_task_of_fals_own_webhook_that_stands_still_keeps_its_id(bench, source):
    url = f"{source.url}/files/tone.wav"
    await generation(bench, {"url": url}, request_id="r7")
    job = bench.job(url, source="fal", generation_id=None, request_id="r7")
    as_fal = next(iter(bench.parts.reconciler._plan(_event(url), even_empty=False)))
    job = job.model_copy(update={"task_id": as_fal.task_id, "output_key": as_fal.output_key, "files": as_fal.files})
    await bench.records.begin(job, uuid4(), "a worker that died", 1)
    await age_everything(bench)
    swept = await bench.parts.reconciler.sweep()
    assert (swept.found["idle"], swept.ended) == (1, 0)
    await bench.outcome("completed", queue="file_processing.bulk")
    assert (await bench.task(job))["status"] == "completed"


async def test_a_task_that_nothing_can_revive_ends_with_its_reason(bench, source):
    job = bench.job(f"{source.url}/files/tone.wav")  # no row: its message was all there was
    await bench.records.begin(job, uuid4(), "a worker that died", 1)
    await age_everything(bench)
    swept = await bench.parts.reconciler.sweep()
    assert (swept.found, swept.ended) == ({"idle": 1}, 1)
    task = await bench.task(job)
    assert (task["status"], task["error_code"]) == ("failed", "message_lost")
    assert (await bench.parts.reconciler.sweep()).found.total() == 0


async def test_a_generation_without_files_is_looked_at_once(bench):
    text = await generation(bench, {"text": "a poem"})
    assert (await bench.parts.reconciler.sweep()).found == {"no_task": 1}
    assert (await bench.parts.reconciler.sweep()).found.total() == 0
    assert await media(bench, text) == ("completed", [])


async def test_since_and_age_bound_the_sweep(bench, source):
    old = await generation(bench, {"url": f"{source.url}/files/tone.wav"})
    await bench.sql.execute("update generations set created_at = now() - interval '3 days' where id = $1", UUID(old))
    await generation(bench, {"url": f"{source.url}/files/tone.mp3"})
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert len(await bench.parts.reconciler.look(None)) == 2
    assert len(await bench.parts.reconciler.look(yesterday)) == 1
    assert (await bench.parts.reconciler.sweep(older_than=3600)).enqueued == 1
    assert (await bench.parts.reconciler.sweep(since=yesterday)).enqueued == 1


async def test_a_publish_that_fails_is_made_good_by_a_later_sweep(bench, source):
    await generation(bench, {"url": f"{source.url}/files/tone.wav"})
    queue = await bench.channel.get_queue("outlast.file_processing.bulk")
    await queue.unbind("outlast", "file_processing.bulk")
    with pytest.raises(BrokerUnavailableError):
        await bench.parts.reconciler.sweep()
    await queue.bind("outlast", "file_processing.bulk")
    await age_everything(bench)
    assert (await bench.parts.reconciler.sweep()).enqueued == 1


async def test_each_round_is_one_workers(bench, source):
    await bench.pause()
    await generation(bench, {"url": f"{source.url}/files/tone.wav"})
    reconcile_records = ReconcileRecords(bench.parts.supabase)
    turns = await asyncio.gather(*(reconcile_records.turn("reconcile", 60, f"w{n}") for n in range(8)))
    assert sorted(turns) == [False] * 7 + [True]
    settings = bench.settings.model_copy(update={"reconcile_every_seconds": 1})
    await bench.sql.execute("update outlast_turns set next_at = now()")
    schedule = slots(settings, rounds_of(bench, settings), bench.broker)[:1]
    reconcile_records = ReconcileRecords(bench.parts.supabase)
    running = [asyncio.create_task(keep(schedule, reconcile_records, f"w{n}")) for n in range(3)]
    async with asyncio.timeout(SOON):
        while await bench.waiting("outlast.file_processing.bulk") == 0:
            await asyncio.sleep(0.1)
    await asyncio.sleep(2.5)
    for task in running:
        task.cancel()
    assert await bench.waiting("outlast.file_processing.bulk") == 1


async def test_no_round_while_many_jobs_wait(bench, source):
    await bench.pause()
    await generation(bench, {"url": f"{source.url}/files/tone.wav"})
    job = bench.job(f"{source.url}/files/tone.wav")
    await asyncio.gather(*(bench.send(job) for _ in range(BACKLOG + 1)))
    rounds = rounds_of(bench, bench.settings)
    await rounds.once()
    assert await bench.waiting("outlast.file_processing.bulk") == 0
    await (await bench.channel.get_queue("outlast.file_processing")).purge()
    await bench.sql.execute("update generations set created_at = now() - interval '1 hour'")
    await rounds.once()
    assert await bench.waiting("outlast.file_processing.bulk") == 1


async def test_the_command_looks_then_enqueues(bench, source):
    await generation(bench, {"url": f"{source.url}/files/tone.wav"})
    assert await outlast(bench, "reconcile", "--dry-run", "--json") == {
        "found": 1,
        "reasons": {"no_task": 1},
        "enqueued": 0,
        "ended": 0,
        "dry_run": True,
    }
    told = await outlast(bench, "reconcile", "--since", "2020-01-01", "--json")
    assert (told["found"], told["enqueued"]) == (1, 1)
    assert (await outlast(bench, "reconcile", "--json"))["found"] == 0


async def test_a_task_whose_message_killed_its_workers_ends_when_the_sweep_sees_the_letter(bench, source):
    await bench.pause()
    job, unknown = bench.job(f"{source.url}/files/tone.wav"), bench.job(f"{source.url}/files/tone.mp3")
    await bench.records.begin(job, uuid4(), "a worker it killed", 1)
    await bench.sql.execute("update outlast_tasks set lease_until = now() - interval '1 minute'")
    for each in (job, unknown):
        await bench.send(each)
    queue = await bench.channel.get_queue("outlast.file_processing")
    for _ in range(2 * 21):  # what the broker sees of workers that die
        await (await queue.get()).reject(requeue=True)
    async with asyncio.timeout(SOON):
        while await bench.waiting("outlast.dead") < 2:
            await asyncio.sleep(0.05)
    rounds = rounds_of(bench, bench.settings)
    await rounds.once()
    await rounds.once()
    task = await bench.task(job)
    assert (task["status"], task["error_code"]) == ("failed", "worker_killed")
    assert figure(bench.metrics.dead_letters.labels("worker_killed")) == 1
    assert await bench.waiting("outlast.dead") == 2


def rounds_of(bench, settings):
    reconcile_records = ReconcileRecords(bench.parts.supabase)
    reaper = KilledTaskReaper(settings, reconcile_records, bench.broker, bench.metrics)
    return SweepJob(bench.parts.reconciler, reaper, reconcile_records, settings)


async def outlast(bench, *arguments):
    settings = bench.settings
    env = os.environ | {
        "RABBITMQ_URL": settings.rabbitmq_url.get_secret_value(),
        "SUPABASE_URL": settings.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": settings.supabase_service_role_key.get_secret_value(),
        "SOURCE_ALLOWLIST": " ".join(settings.source_allowlist),
        "TEMP_DIR": str(settings.temp_dir),
        "RETRY_DELAYS": "1,2",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", *arguments, env=env, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(said)


async def only(bench):
    """The one entry that is missing."""
    [entry] = await bench.parts.reconciler.look(None)
    return entry


async def age_everything(bench):
    """Let all tasks have stood still for longer than any delay and time limit."""
    await bench.sql.execute(
        "update outlast_tasks set updated_at = now() - interval '1 day', lease_until = lease_until - interval '1 day'"
    )


def _event(url):
    return Completed(source="reconcile", request_id="r7", output={"url": url})
