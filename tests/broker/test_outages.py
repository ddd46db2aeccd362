"""A worker during the outage of a dependency: it stops consuming, spends no attempts and resumes afterwards."""

import asyncio
import contextlib

import pytest

from tests.broker.conftest import memory_alarm
from tests.metric_values import metric_value
from tests.time_limits import WAIT_SECONDS
from worker.broker.envelope import Envelope

LAST = 3  # MAX_ATTEMPTS of `worker_env`: one more counted failure would dead-letter the job
REFUSING_BEGIN = """
create sequence refusals;
create function outlast_begin(p_job jsonb, p_lease uuid, p_worker text, p_lease_seconds int default 30) returns jsonb
language plpgsql security definer as $$
begin
  perform nextval('refusals');  -- is not rolled back
  raise exception 'the database is shutting down' using errcode = '57P01';
end $$;
"""


async def wait_until_paused(worker_env, *, wanted=True):
    """Wait until the work queue has no consumer (or, with `wanted=False`, has one)."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (await consumer_count(worker_env) == 0) is not wanted:
            await asyncio.sleep(0.05)


async def consumer_count(worker_env):
    declared = await worker_env.channel.declare_queue("outlast.file_processing", passive=True)
    return declared.declaration_result.consumer_count


async def test_supabase_outage_pauses_the_worker_and_costs_no_attempt(worker_env, source):
    jobs = [worker_env.job(f"{source.url}/files/tone.wav?n={n}") for n in range(6)]
    await worker_env.gateway.stop()
    for job in jobs:
        await worker_env.send(job, attempt=LAST)
    await worker_env.wait_for_outcome("retried_uncounted")
    await wait_until_paused(worker_env)
    assert "no jobs are taken" in worker_env.worker.outage("database")
    assert metric_value(worker_env.metrics.circuit_open.labels("database")) == 1
    await worker_env.gateway.start()
    await wait_until_paused(worker_env, wanted=False)
    await worker_env.wait_for_outcome("completed", count=len(jobs))
    assert worker_env.worker.outage("database") is None
    assert await worker_env.message_count("outlast.dead") == 0
    assert await worker_env.sql.fetchval("select max(attempt) from outlast_tasks") == LAST


async def test_database_outage_during_a_job_costs_no_attempt(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav?slow=200000")
    await worker_env.send(job, attempt=LAST)
    await worker_env.wait_until_running()
    await worker_env.gateway.stop()
    async with asyncio.timeout(WAIT_SECONDS):
        while not downloads(worker_env):  # the download finishes during the outage
            await asyncio.sleep(0.05)
    await worker_env.gateway.start()
    await worker_env.wait_for_outcome("completed")
    assert await worker_env.message_count("outlast.dead") == 0


def downloads(worker_env):
    samples = worker_env.metrics.stage_duration.labels("download").collect()[0].samples
    return next(sample.value for sample in samples if sample.name.endswith("_count"))


async def test_unavailable_storage_pauses_the_worker_until_it_returns(worker_env, source):
    await worker_env.sql.execute("set role none; alter schema storage rename to storage_away")
    job = worker_env.job(f"{source.url}/files/tone.wav")
    await worker_env.send(job, attempt=LAST)
    await worker_env.wait_for_outcome("retried_uncounted")
    await wait_until_paused(worker_env)
    await worker_env.sql.execute("set role none; alter schema storage_away rename to storage")
    await worker_env.wait_for_outcome("completed")
    assert await worker_env.sql.fetchval("select max(attempt) from outlast_tasks") == LAST
    assert await worker_env.message_count("outlast.dead") == 0


async def test_repeated_upload_failures_pause_the_worker(worker_env, source):
    await worker_env.sql.execute(
        "set role none;"
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;"
        "create trigger refuse before insert on storage.objects for each row execute function refuse()"
    )
    for n in range(8):
        await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav?n={n}"))
    await wait_until_paused(worker_env)
    assert "failures in a row" in worker_env.worker.outage("storage")
    await worker_env.sql.execute("drop trigger refuse on storage.objects")
    await worker_env.wait_for_outcome("completed", count=8)
    assert await worker_env.message_count("outlast.dead") == 0


async def test_incomplete_object_is_uploaded_again(worker_env, source):
    await worker_env.sql.execute(
        "set role none; create function halve() returns trigger language plpgsql as $$ begin"
        "  new.metadata = new.metadata || jsonb_build_object('size', (new.metadata ->> 'size')::int / 2); return new;"
        "end $$; create trigger halve before insert on storage.objects for each row execute function halve()"
    )
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("retried")
    await worker_env.sql.execute("drop trigger halve on storage.objects")
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 0
    assert await worker_env.sql.fetchval("select status from outlast_tasks") == "retrying"
    await worker_env.wait_for_outcome("completed")
    size = await worker_env.sql.fetchval("select file_size from outlast_files")
    assert await worker_env.sql.fetchval("select (metadata ->> 'size')::int from storage.objects") == size
    assert await worker_env.message_count("outlast.dead") == 0


async def test_known_object_is_checked_in_sql_without_a_storage_request(worker_env, source):
    for number in range(2):
        await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav?n={number}"))
        await worker_env.wait_for_outcome("completed", count=number + 1)
    samples = worker_env.metrics.storage_requests.collect()[0].samples
    counts = {s.labels["operation"]: s.value for s in samples if s.name.endswith("_total") and s.value}
    assert counts == {"upload": 1}
    assert await worker_env.sql.fetchval("select count(*) from outlast_files where deduplicated") == 1


async def test_worker_reopens_a_channel_that_the_broker_closed(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav?slow=100000")
    await worker_env.send(job)
    await worker_env.wait_until_running()
    files = worker_env.worker._consumers[0]
    underlay = await files._channel.get_underlay_channel()
    await underlay.basic_ack(delivery_tag=12345)  # unknown tag: the broker closes the channel, as after a late ack
    async with asyncio.timeout(WAIT_SECONDS):
        while not underlay.is_closed:
            await asyncio.sleep(0.01)
    await worker_env.wait_for_outcome("completed")
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.mp3"))
    await worker_env.wait_for_outcome("completed", count=2)
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 2
    assert await worker_env.message_count("outlast.dead") == 0


@pytest.fixture
async def short_consumer_timeout(rabbitmq):
    """A broker that requeues deliveries that were not acknowledged within three seconds."""
    await rabbitmq.evaluate(timeout_expression(3000, 500))
    yield
    await rabbitmq.evaluate(timeout_expression(1800000, 60000))


def timeout_expression(timeout, tick):
    return (
        f"application:set_env(rabbit, consumer_timeout, {timeout}), "
        f"application:set_env(rabbit, channel_tick_interval, {tick})."
    )


async def test_delivery_past_the_consumer_timeout_is_processed_once(short_consumer_timeout, worker_env, source):  # noqa: ARG001
    job = worker_env.job(f"{source.url}/files/photo.png?slow=100000")  # takes longer than the broker's consumer timeout
    await worker_env.send(job)
    await worker_env.wait_for_outcome("completed")
    await worker_env.wait_for_outcome("busy")  # the redelivered message waited for the lease
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.mp3"))
    await worker_env.wait_for_outcome("completed", count=2)
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 2
    assert await worker_env.message_count("outlast.dead") == 0


@pytest.mark.settings(task_timeout_minutes=15 / 60)
async def test_timed_out_attempt_keeps_stored_files_and_is_retried(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav", f"{source.url}/files/photo.png?slow=2000")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("retried")
    task = await worker_env.task(job)
    assert (task["status"], task["error_code"]) == ("retrying", "timed_out")
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 1


async def test_broker_alarm_makes_the_worker_not_ready_and_loses_nothing(rabbitmq, worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav?slow=100000", f"{source.url}/files/photo.png?slow=200000")
    await worker_env.send(job)
    await worker_env.wait_until_running()
    async with memory_alarm(rabbitmq):
        with contextlib.suppress(RuntimeError):
            await worker_env.broker.publish_job(Envelope(worker_env.job(f"{source.url}/files/tone.mp3")), 2)
        problem = await worker_env.broker.problem()
        assert problem is not None
        assert "alarm" in problem
    async with asyncio.timeout(WAIT_SECONDS):
        while await worker_env.broker.problem() is not None:
            await asyncio.sleep(0.05)
    await worker_env.wait_for_outcome("completed")


async def test_short_database_outage_costs_no_attempt(worker_env, source):
    await worker_env.sql.execute("alter function outlast_begin(jsonb, uuid, text, int) rename to away")
    await worker_env.sql.execute(REFUSING_BEGIN)
    job = worker_env.job(f"{source.url}/files/tone.wav")
    await worker_env.send(job, attempt=LAST)
    async with asyncio.timeout(WAIT_SECONDS):
        while not await worker_env.sql.fetchval("select is_called from refusals"):
            await asyncio.sleep(0.01)
    await worker_env.sql.execute(
        "drop function outlast_begin(jsonb, uuid, text, int);"
        "alter function away(jsonb, uuid, text, int) rename to outlast_begin"
    )
    await worker_env.wait_for_outcome("completed")
    assert worker_env.outcome_count("retried") == worker_env.outcome_count("failed") == 0
