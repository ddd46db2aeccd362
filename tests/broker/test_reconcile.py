"""The sweep finds generations whose webhook was lost, and skips ended, running and already found tasks."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from handlers.database.reconcile_records import ReconcileRecords
from handlers.download.allowlist import Allowlist
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration
from tests.captured_logs import capture_log
from tests.listening import refused_port
from tests.metric_values import metric_value
from tests.time_limits import WAIT_SECONDS
from worker.broker.connection import Broker
from worker.broker.errors import BrokerUnavailableError
from worker.periodic.reconcile import MAX_WAITING_JOBS
from worker.periodic.schedule import KilledTaskReaper, SweepJob, build_schedule, run_schedule
from worker.periodic.sweep_plan import SweepPlanner


async def generation(worker_env, output, **more):
    """Insert a completed generation without sending its webhook; return its id."""
    row = {"status": "completed", "output": json.dumps(output), "user_id": str(uuid4()), "request_id": None} | more
    return str(
        await worker_env.sql.fetchval(
            "insert into generations (status, output, user_id, request_id)"
            " select status, output, user_id, $4 from jsonb_populate_record(null::generations,"
            "   jsonb_build_object('status', $1::text, 'output', $2::jsonb, 'user_id', $3::text)) returning id",
            row["status"],
            row["output"],
            row["user_id"],
            row["request_id"],
        )
    )


async def media(worker_env, generation_id):
    row = await worker_env.sql.fetchrow(
        "select media, media_status from generations where id = $1", UUID(generation_id)
    )
    return row["media_status"], json.loads(row["media"] or "[]")


async def test_sweep_enqueues_a_generation_whose_webhook_was_lost(worker_env, source):
    lost = await generation(
        worker_env, {"images": [{"url": f"{source.url}/files/photo.png"}], "audio": f"{source.url}/files/tone.wav"}
    )
    swept = await worker_env.parts.reconciler.sweep()
    assert (swept.found, swept.enqueued) == ({"no_task": 1}, 1)
    assert metric_value(worker_env.metrics.unreconciled_generations) == 1
    async with asyncio.timeout(WAIT_SECONDS):
        while (await media(worker_env, lost))[0] != "completed":
            await asyncio.sleep(0.05)
    assert [file["content_type"] for file in (await media(worker_env, lost))[1]] == ["audio/wav", "image/jpeg"]
    again = await worker_env.parts.reconciler.sweep()
    assert (again.found.total(), again.enqueued) == (0, 0)
    assert metric_value(worker_env.metrics.unreconciled_generations) == 0
    assert worker_env.outcome_count("completed", "file_processing.bulk") == 1


async def test_enqueued_generation_is_not_found_by_the_next_sweep(worker_env, source):
    await worker_env.pause()
    await generation(worker_env, {"url": f"{source.url}/files/tone.wav"})
    first, second = await worker_env.parts.reconciler.sweep(), await worker_env.parts.reconciler.sweep()
    assert (first.enqueued, second.enqueued) == (1, 0)
    assert await worker_env.message_count("outlast.file_processing.bulk") == 1


async def test_partly_published_event_is_completed_by_the_sweep(worker_env, source):
    output = [{"url": f"{source.url}/files/tone.wav?n={n}"} for n in range(12)]  # MAX_BATCH_SIZE is 10
    generation_id = await generation(worker_env, output)
    jobs = bulk_jobs(worker_env, await only_missing_entry(worker_env))
    assert [len(job.files) for job in jobs] == [10, 2]
    await worker_env.send(jobs[0])
    await worker_env.wait_for_outcome("completed", queue="file_processing.bulk")
    assert (await media(worker_env, generation_id))[0] == "pending"
    await make_all_tasks_idle(worker_env)
    swept = await worker_env.parts.reconciler.sweep()
    assert (swept.found, swept.enqueued) == ({"incomplete": 1}, 1)
    async with asyncio.timeout(WAIT_SECONDS):
        while (await media(worker_env, generation_id))[0] != "completed":
            await asyncio.sleep(0.05)
    assert len((await media(worker_env, generation_id))[1]) == 12


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
async def test_sweep_leaves_ended_tasks_alone(worker_env, source, ending):
    output = [{"url": f"{source.url}/files/nothing-{n}.png"} for n in range(12)]
    await generation(worker_env, output)
    jobs = bulk_jobs(worker_env, await only_missing_entry(worker_env))
    for job in jobs:
        if ending == "cancelled":
            await worker_env.records.cancel(job.task_id)
        await worker_env.send(job)
    await worker_env.wait_for_outcome(ending, count=2, queue="file_processing.bulk")
    await make_all_tasks_idle(worker_env)
    swept = await worker_env.parts.reconciler.sweep()
    assert (swept.found.total(), swept.enqueued, swept.ended) == (0, 0, 0)


async def test_idle_task_is_enqueued_again(worker_env, source):
    stuck = await generation(worker_env, {"url": f"{source.url}/files/tone.wav"})
    [job] = bulk_jobs(worker_env, await only_missing_entry(worker_env))
    # The worker died, and its message was lost with the broker's disk.
    await worker_env.records.begin(job, uuid4(), "a worker that died", 1)
    await make_all_tasks_idle(worker_env)
    swept = await worker_env.parts.reconciler.sweep()
    assert (swept.found, swept.enqueued) == ({"idle": 1}, 1)
    async with asyncio.timeout(WAIT_SECONDS):
        while (await media(worker_env, stuck))[0] != "completed":
            await asyncio.sleep(0.05)


async def test_idle_task_of_a_fal_webhook_keeps_its_id(worker_env, source):
    url = f"{source.url}/files/tone.wav"
    await generation(worker_env, {"url": url}, request_id="r7")
    job = worker_env.job(url, source="fal", generation_id=None, request_id="r7")
    [as_fal] = plan(worker_env, CompletedGeneration(source="reconcile", request_id="r7", output={"url": url}))
    fields = ("task_id", "user_id", "output_key", "files")
    job = job.model_copy(update={name: getattr(as_fal, name) for name in fields})
    await worker_env.records.begin(job, uuid4(), "a worker that died", 1)
    await make_all_tasks_idle(worker_env)
    swept = await worker_env.parts.reconciler.sweep()
    assert (swept.found["idle"], swept.ended) == (1, 0)
    await worker_env.wait_for_outcome("completed", queue="file_processing.bulk")
    assert (await worker_env.task(job))["status"] == "completed"


async def test_idle_task_without_a_generation_fails_with_message_lost(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav")  # it has no row: the message was its only record
    await worker_env.records.begin(job, uuid4(), "a worker that died", 1)
    await make_all_tasks_idle(worker_env)
    swept = await worker_env.parts.reconciler.sweep()
    assert (swept.found, swept.ended) == ({"idle": 1}, 1)
    task = await worker_env.task(job)
    assert (task["status"], task["error_code"]) == ("failed", "message_lost")
    assert (await worker_env.parts.reconciler.sweep()).found.total() == 0


async def test_generation_without_files_is_found_once(worker_env):
    text = await generation(worker_env, {"text": "a poem"})
    assert (await worker_env.parts.reconciler.sweep()).found == {"no_task": 1}
    assert (await worker_env.parts.reconciler.sweep()).found.total() == 0
    assert await media(worker_env, text) == ("completed", [])


async def test_since_and_older_than_limit_the_sweep(worker_env, source):
    await worker_env.sweep_rows_of_every_age()
    old = await generation(worker_env, {"url": f"{source.url}/files/tone.wav"})
    await worker_env.sql.execute(
        "update generations set created_at = now() - interval '3 days' where id = $1", UUID(old)
    )
    await generation(worker_env, {"url": f"{source.url}/files/tone.mp3"})
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert await worker_env.parts.reconciler.count_missing(None) == {"no_task": 2}
    assert await worker_env.parts.reconciler.count_missing(yesterday) == {"no_task": 1}
    assert (await worker_env.parts.reconciler.sweep(older_than=3600)).enqueued == 1
    assert (await worker_env.parts.reconciler.sweep(since=yesterday)).enqueued == 1


async def test_failed_publish_is_repeated_by_a_later_sweep(worker_env, source, delete_for_good):
    await generation(worker_env, {"url": f"{source.url}/files/tone.wav"})
    async with delete_for_good("outlast.file_processing.bulk"):
        with pytest.raises(BrokerUnavailableError):
            await worker_env.parts.reconciler.sweep()
    await make_all_tasks_idle(worker_env)
    assert (await worker_env.parts.reconciler.sweep()).enqueued == 1


async def test_only_one_worker_sweeps_in_each_slot(worker_env, source):
    await worker_env.pause()
    await generation(worker_env, {"url": f"{source.url}/files/tone.wav"})
    reconcile_records = ReconcileRecords(worker_env.parts.supabase)
    turns = await asyncio.gather(*(reconcile_records.claim_slot("reconcile", 60, f"w{n}") for n in range(8)))
    assert sorted(turns) == [False] * 7 + [True]
    settings = worker_env.settings.model_copy(update={"reconcile_every_seconds": 1})
    await worker_env.sql.execute("update outlast_turns set next_at = now()")
    schedule = build_schedule(settings, sweep_job_of(worker_env, settings), worker_env.broker)[:1]
    reconcile_records = ReconcileRecords(worker_env.parts.supabase)
    running = [asyncio.create_task(run_schedule(schedule, reconcile_records, f"w{n}")) for n in range(3)]
    async with asyncio.timeout(WAIT_SECONDS):
        while await worker_env.message_count("outlast.file_processing.bulk") == 0:
            await asyncio.sleep(0.1)
    slot = await worker_env.sql.fetchval("select max(next_at) from outlast_turns")
    async with asyncio.timeout(WAIT_SECONDS):  # two more slots
        while await worker_env.sql.fetchval("select max(next_at) from outlast_turns") < slot + timedelta(seconds=2):
            await asyncio.sleep(0.1)
    for task in running:
        task.cancel()
    assert await worker_env.message_count("outlast.file_processing.bulk") == 1


async def test_no_sweep_while_many_jobs_wait(worker_env, source):
    await worker_env.sweep_rows_of_every_age()
    await worker_env.pause()
    await generation(worker_env, {"url": f"{source.url}/files/tone.wav"})
    url = f"{source.url}/files/tone.wav"
    for _ in range(0, MAX_WAITING_JOBS + 1, 100):
        await asyncio.gather(*(worker_env.send(worker_env.job(url)) for _ in range(100)))
    sweep_job = sweep_job_of(worker_env, worker_env.settings)
    await sweep_job.run()
    assert await worker_env.message_count("outlast.file_processing.bulk") == 0
    await (await worker_env.channel.get_queue("outlast.file_processing")).purge()
    await worker_env.sql.execute("update generations set created_at = now() - interval '1 hour'")
    await sweep_job.run()
    assert await worker_env.message_count("outlast.file_processing.bulk") == 1


async def test_reconcile_command_reports_then_enqueues(worker_env, source):
    await generation(worker_env, {"url": f"{source.url}/files/tone.wav"})
    assert await outlast(worker_env, "reconcile", "--dry-run", "--json") == {
        "found": 1,
        "reasons": {"no_task": 1},
        "enqueued": 0,
        "ended": 0,
        "dry_run": True,
    }
    output = await outlast(worker_env, "reconcile", "--since", "2020-01-01", "--json")
    assert (output["found"], output["enqueued"]) == (1, 1)
    assert (await outlast(worker_env, "reconcile", "--json"))["found"] == 0


async def test_dry_run_of_reconcile_needs_no_broker_and_logs_nothing(worker_env):
    with refused_port() as port:
        unused = f"amqp://u:p@127.0.0.1:{port}/"
        process = await worker_env.start_command("reconcile", "--dry-run", "--json", RABBITMQ_URL=unused)
        out, err = await process.communicate()
    assert (process.returncode, json.loads(out)["found"], err) == (0, 0, b"")


async def test_broker_that_is_closed_while_it_declares_logs_no_loss(worker_env):
    """As a command does that ends early, for example because the database does not answer."""
    with capture_log(worker_env.settings) as lines:
        for turns in range(0, 400, 20):
            async with Broker(worker_env.settings, worker_env.metrics, "short"):
                for _ in range(turns):
                    await asyncio.sleep(0)
    libraries = ("worker.broker", "aio_pika", "aiormq", "asyncio")
    assert [line for line in lines.read() if line["level"] != "info" and line["logger"].startswith(libraries)] == []


async def test_task_that_killed_its_workers_is_failed_by_the_sweep(worker_env, source):
    await worker_env.pause()
    job, unknown = worker_env.job(f"{source.url}/files/tone.wav"), worker_env.job(f"{source.url}/files/tone.mp3")
    await worker_env.records.begin(job, uuid4(), "a worker it killed", 1)
    await worker_env.sql.execute("update outlast_tasks set lease_until = now() - interval '1 minute'")
    for each in (job, unknown):
        await worker_env.send(each)
    queue = await worker_env.channel.get_queue("outlast.file_processing")
    for _ in range(2 * 21):  # the same to the broker as workers that die
        await (await queue.get()).reject(requeue=True)
    async with asyncio.timeout(WAIT_SECONDS):
        while await worker_env.message_count("outlast.dead") < 2:
            await asyncio.sleep(0.05)
    sweep_job = sweep_job_of(worker_env, worker_env.settings)
    await sweep_job.run()
    await sweep_job.run()
    task = await worker_env.task(job)
    assert (task["status"], task["error_code"]) == ("failed", "worker_killed")
    assert metric_value(worker_env.metrics.dead_letters.labels("worker_killed")) == 1
    assert await worker_env.message_count("outlast.dead") == 2


def sweep_job_of(worker_env, settings):
    reconcile_records = ReconcileRecords(worker_env.parts.supabase)
    reaper = KilledTaskReaper(settings, reconcile_records, worker_env.broker, worker_env.metrics)
    return SweepJob(worker_env.parts.reconciler, reaper, reconcile_records, settings)


async def outlast(worker_env, *arguments):
    process = await worker_env.start_command(*arguments)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


async def test_a_generation_whose_only_file_is_skipped_is_completed_with_its_entry(worker_env):
    link = "https://elsewhere.example/a.png"
    sent = await generation(worker_env, {"image": link})
    [job] = bulk_jobs(worker_env, await only_missing_entry(worker_env))
    await worker_env.send(job)
    await worker_env.wait_for_outcome("completed", queue="file_processing.bulk")
    swept = await generation(worker_env, {"image": link})
    assert (await worker_env.parts.reconciler.sweep()).found == {"no_task": 1}
    for generation_id in (swept, sent):
        status, (entry,) = await media(worker_env, generation_id)
        assert (status, entry["status"], entry["code"]) == ("completed", "skipped", "source_forbidden")
        assert (entry["field"], entry["source_url"]) == ("image", link)
    assert (await worker_env.parts.reconciler.sweep()).found.total() == 0
    assert await worker_env.message_count("outlast.dead") == 0


async def only_missing_entry(worker_env):
    """Return the only missing entry."""
    [[entry]] = [page async for page in worker_env.parts.reconciler.pages(None)]
    return entry


async def make_all_tasks_idle(worker_env):
    """Make all tasks appear idle for longer than any delay and time limit."""
    await worker_env.sql.execute(
        "update outlast_tasks set updated_at = now() - interval '1 day', lease_until = lease_until - interval '1 day'"
    )


def bulk_jobs(worker_env, entry):
    """Return the jobs that the sweep enqueues for a generation without a task."""
    return SweepPlanner(worker_env.settings).jobs(entry)


def plan(worker_env, event):
    return plan_jobs(event, worker_env.settings, Allowlist(worker_env.settings.source_allowlist))
