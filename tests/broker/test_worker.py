"""Every outcome of a delivery."""

import asyncio
import base64
import json
from uuid import uuid4

import aio_pika
import asyncpg
import pytest

from tests.metric_values import metric_value
from tests.time_limits import WAIT_SECONDS


@pytest.mark.parametrize("origin", ["supabase", "api"])
async def test_job_sent_twice_is_downloaded_and_processed_once(worker_env, source, origin):
    job, hits = worker_env.job(f"{source.url}/files/tone.wav", source=origin), source.hits["tone.wav"]
    await worker_env.send(job)
    await worker_env.wait_for_outcome("completed")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("duplicate")
    assert source.hits["tone.wav"] == hits + 1
    assert (await worker_env.task(job))["status"] == "completed"
    assert await worker_env.message_count("outlast.dead") == 0
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 1


async def test_a_webhooks_file_is_downloaded_while_the_task_begins(worker_env, source):
    job, hits = worker_env.job(f"{source.url}/files/tone.wav", source="supabase"), source.hits["tone.wav"]
    async with worker_env.sql.transaction():
        await worker_env.sql.execute("lock table public.outlast_tasks in access exclusive mode")
        await worker_env.send(job)
        async with asyncio.timeout(WAIT_SECONDS):
            while source.hits["tone.wav"] == hits:
                await asyncio.sleep(0.01)
    await worker_env.wait_for_outcome("completed")
    assert source.hits["tone.wav"] == hits + 1


async def test_concurrent_duplicate_job_waits_and_costs_no_attempt(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav?slow=100000")
    await asyncio.gather(worker_env.send(job), worker_env.send(job))
    await worker_env.wait_for_outcome("busy")
    waiting = await worker_env.take_message("outlast.retry.2")
    await worker_env.wait_for_outcome("completed")
    assert waiting is not None, "delayed for at least the time of the lease"
    assert waiting.headers["x-outlast-attempt"] == 1
    assert "x-outlast-error-code" not in waiting.headers


async def test_retry_contains_only_pending_files_and_completes(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav", f"{source.url}/files/tone.mp3?fail_first=1")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("retried")
    task = await worker_env.task(job)
    assert (task["status"], task["error_code"]) == ("retrying", "source_unavailable")
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 1
    hits = source.hits["tone.wav"]
    await worker_env.wait_for_outcome("completed")
    assert source.hits["tone.wav"] == hits
    assert (await worker_env.task(job))["status"] == "completed"
    assert (await worker_env.task(job))["attempt"] == 2


async def test_retry_after_selects_the_retry_queue(worker_env, source):
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav?status=503&retry_after=2"))
    await worker_env.wait_for_outcome("retried")
    message = await worker_env.take_message("outlast.retry.2")
    assert message is not None
    assert message.headers["x-outlast-attempt"] == 2
    assert message.headers["x-outlast-error-code"] == "source_unavailable"
    assert message.routing_key == "file_processing"


async def test_final_failures_are_dead_lettered_one_message_per_code(worker_env, source):
    base = f"{source.url}/files"
    job = worker_env.job(
        f"{base}/a.png?status=410", f"{base}/b.png?status=410", f"{base}/tone.wav", "https://127.0.0.1/inside.png"
    )
    await worker_env.send(job)
    await worker_env.wait_for_outcome("partial")
    letters = [await worker_env.take_message("outlast.dead") for _ in range(2)]
    assert await worker_env.take_message("outlast.dead") is None
    positions = {
        letter.headers["x-outlast-error-code"]: [file["position"] for file in json.loads(letter.body)["files"]]
        for letter in letters
    }
    assert positions == {"source_gone": [0, 1], "source_forbidden": [3]}
    assert all(letter.headers["x-outlast-failed-at"] and letter.headers["x-outlast-error"] for letter in letters)
    task = await worker_env.task(job)
    assert task["status"] == "partial"
    assert {failed["code"] for failed in json.loads(task["failed"])} == {"source_gone", "source_forbidden"}


async def test_skipped_file_is_recorded_and_not_dead_lettered(worker_env, source):
    noise = base64.b64encode(bytes(range(1, 256)) * 40).decode()
    job = worker_env.job(f"{source.url}/files/tone.wav", f"data:application/octet-stream;base64,{noise}")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("completed")
    assert await worker_env.message_count("outlast.dead") == 0
    task = await worker_env.task(job)
    assert task["status"] == "completed"
    (skipped,) = json.loads(task["failed"])
    assert (skipped["code"], skipped["position"]) == ("type_skipped", 1)
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 1


async def test_job_is_dead_lettered_after_max_attempts(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav?status=500")
    await worker_env.send(job, attempt=3)
    await worker_env.wait_for_outcome("failed")
    letter = await worker_env.take_message("outlast.dead")
    assert letter.headers["x-outlast-attempt"] == 3
    assert (await worker_env.task(job))["status"] == "failed"


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [(b"not json", "outlast.job.v1", "undecodable"), (b'{"future": true}', "outlast.job.v2", "newer_version")],
)
async def test_undecodable_message_is_dead_lettered_unchanged(worker_env, body, kind, code):
    exchange = await worker_env.channel.get_exchange("outlast")
    await exchange.publish(aio_pika.Message(body, type=kind, message_id="m1"), "file_processing")
    await worker_env.wait_for_outcome("undecodable")
    letter = await worker_env.take_message("outlast.dead")
    assert (letter.body, letter.type, letter.message_id) == (body, kind, "m1")
    assert letter.headers["x-outlast-error-code"] == code


async def test_job_without_files_fails_and_names_fal(worker_env):
    await worker_env.sql.execute("insert into generations (request_id, status) values ('r1', 'completed')")
    job = worker_env.job(source="fal", generation_id=None, request_id="r1")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("failed")
    letter = await worker_env.take_message("outlast.dead")
    assert "FAL" in letter.headers["x-outlast-error"]
    assert (await worker_env.task(job))["status"] == "failed"


async def test_job_without_a_generation_row_is_retried_until_it_exists(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav", source="fal", generation_id=None, request_id="late")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("retried")
    await worker_env.sql.execute(
        "insert into generations (request_id, status, user_id) values ('late', 'completed', null)"
    )
    await worker_env.wait_for_outcome("completed")
    media = json.loads(await worker_env.sql.fetchval("select media from generations where request_id = 'late'"))
    assert len(media) == 1


async def test_job_past_the_death_limit_is_dead_lettered(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav")
    await worker_env.send(job, deaths=20)
    await worker_env.wait_for_outcome("failed")
    letter = await worker_env.take_message("outlast.dead")
    assert letter.headers["x-outlast-error-code"] == "worker_killed"
    assert await worker_env.sql.fetchval("select count(*) from outlast_tasks") == 0, "no worker had begun it"


async def test_task_of_a_job_past_the_death_limit_is_failed(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav")
    await worker_env.records.begin(job, uuid4(), "a worker it killed", 1)
    await worker_env.sql.execute("update outlast_tasks set lease_until = now() - interval '1 minute'")
    await worker_env.send(job, deaths=20)
    await worker_env.wait_for_outcome("failed")
    task = await worker_env.task(job)
    assert (task["status"], task["error_code"]) == ("failed", "worker_killed")


async def test_heartbeat_does_not_cancel_a_task_that_is_starting(worker_env, source):
    other = await asyncpg.connect(worker_env.dsn)
    hold = other.transaction()
    await hold.start()
    job = worker_env.job(f"{source.url}/files/tone.wav")
    # Another connection inserts the same task and does not commit, so outlast_begin waits for it.
    await other.execute("insert into outlast_tasks (task_id) values ($1)", job.task_id)
    await worker_env.send(job)
    async with asyncio.timeout(WAIT_SECONDS):
        while not worker_env.worker.stats()["active"]:
            await asyncio.sleep(0.01)
    await worker_env.worker.renew_leases()
    await hold.rollback()
    await other.close()
    await worker_env.wait_for_outcome("completed")
    assert worker_env.outcome_count("lost") == 0


async def test_a_cancelled_task_is_dropped_on_delivery(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav")
    await worker_env.sql.execute("select outlast_cancel($1)", job.task_id)
    await worker_env.send(job)
    await worker_env.wait_for_outcome("cancelled")
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 0


async def test_task_cancelled_while_running_stops(worker_env, source):
    job = worker_env.job(f"{source.url}/files/photo.png?slow=20000")
    await worker_env.send(job)
    await worker_env.wait_until_running()
    await worker_env.sql.execute("select outlast_cancel($1)", job.task_id)
    await worker_env.worker.renew_leases()
    await worker_env.wait_for_outcome("cancelled")
    assert (await worker_env.task(job))["status"] == "cancelled"


async def test_shutdown_requeues_unfinished_jobs_and_costs_no_attempt(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav", f"{source.url}/files/photo.png?slow=20000")
    await worker_env.send(job, attempt=2)
    await worker_env.wait_until_running()
    async with asyncio.timeout(WAIT_SECONDS):
        while not metric_value(worker_env.metrics.files.labels("audio", "stored")):
            await asyncio.sleep(0.02)
    await worker_env.worker.stop(0)
    assert worker_env.outcome_count("requeued") == 1
    message = await worker_env.take_message("outlast.file_processing")
    assert message.headers["x-outlast-attempt"] == 2
    assert await worker_env.message_count("outlast.dead") == 0
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 1
    assert (await worker_env.task(job))["lease"] is None


async def test_shutdown_waits_for_running_jobs_within_the_grace_time(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav?slow=100000")
    await worker_env.send(job)
    await worker_env.wait_until_running()
    await worker_env.worker.stop(10)
    assert worker_env.outcome_count("completed") == 1
    assert await worker_env.message_count("outlast.file_processing") == 0


async def test_database_outage_at_the_start_retries_the_job(worker_env, source):
    await worker_env.sql.execute("alter function outlast_begin(jsonb, uuid, text, int) rename to away")
    job = worker_env.job(f"{source.url}/files/tone.wav")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("retried")
    await worker_env.sql.execute("alter function away(jsonb, uuid, text, int) rename to outlast_begin")
    await worker_env.wait_for_outcome("completed")
    assert (await worker_env.task(job))["status"] == "completed"
    assert await worker_env.message_count("outlast.dead") == 0


async def test_rejected_upload_records_no_object(worker_env, source):
    await worker_env.sql.execute("delete from storage.buckets")
    job = worker_env.job(f"{source.url}/files/tone.wav")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("failed")
    assert (await worker_env.take_message("outlast.dead")).headers["x-outlast-error-code"] == "storage_rejected"
    assert await worker_env.sql.fetchval("select count(*) from outlast_objects where refs > 0") == 0


async def test_unknown_database_answer_is_retried_up_to_max_attempts(worker_env, source):
    await worker_env.sql.execute(
        "create or replace function outlast_begin(p_job jsonb, p_lease uuid, p_worker text, p_lease_seconds int "
        "default 30) returns jsonb language sql as $$ select jsonb_build_object('state', 'of the art') $$"
    )
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("failed")
    assert worker_env.outcome_count("retried") == 2
    letter = await worker_env.take_message("outlast.dead")
    assert letter.headers["x-outlast-error-code"] == "database_unavailable"
    assert "migrations" in letter.headers["x-outlast-error"]
