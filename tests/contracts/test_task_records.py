"""TaskRecords with Supabase's client, the gateway and the real SQL functions."""

import asyncio
import json
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from handlers.database.client import Supabase
from handlers.database.task_records import TaskRecords
from handlers.errors import DatabaseUnavailableError, SourceGoneError
from handlers.settings import MediaSettings
from schemas.files import FailedFile, ProcessedFile
from schemas.formats import SKIPPED
from schemas.jobs import Job, JobFile, Profile, file_id_for, output_key_for, task_id_for
from schemas.tasks import TaskStatus
from schemas.urls import data_reference, source_key

URLS = ("https://fal.media/a.png", "https://fal.media/b.png")


def job(generation, **more):
    files = tuple(JobFile(position=n, url=url, source_key=source_key(url)) for n, url in enumerate(URLS))
    fields = {
        "task_id": task_id_for(generation, files, Profile()),
        "generation_id": generation,
        "user_id": "u",
        "source": "supabase",
        "files": files,
        "total_files": len(files),
        "output_key": output_key_for([file.source_key for file in files]),
        "event_at": datetime.now(UTC),
    }
    return Job(**fields | more)


def stored(job, position):
    file, sha = job.files[position], f"{position}" * 64
    return ProcessedFile(
        id=file_id_for(job.generation_id, file.source_key),
        position=position,
        original_filename="a.png",
        original_size=10,
        file_size=5,
        content_type="image/png",
        bucket="generations",
        path=f"u/{sha[:2]}/{sha}.png",
        sha256=sha,
        width=1,
        height=2,
        source_url=file.url,
        source_key=file.source_key,
        source_sha256=sha,
        profile=job.profile.key,
    )


@pytest.fixture
async def gateway(database_url, tmp_path):
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as running:
        yield running


@pytest.fixture
async def records(gateway):
    settings = MediaSettings(
        _env_file=None,
        supabase_url=gateway.url,
        supabase_service_role_key=SecretStr(gateway.service_role_key),
        storage_timeout_seconds=5,
    )
    async with Supabase(settings) as supabase:
        yield TaskRecords(supabase)


@pytest.fixture
async def sql(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_task_is_recorded_from_begin_to_completed(records, sql):
    generation = await sql.fetchval("insert into generations (status) values ('completed') returning id::text")
    task_job, lease = job(generation), uuid4()
    reply = await records.begin(task_job, lease, "w", 1)
    assert (reply.state, reply.files, reply.user_id) == ("run", [], "u")
    finished = await records.finish(
        task_job, lease, TaskStatus.COMPLETED, [stored(task_job, 0), stored(task_job, 1)], []
    )
    assert (finished.state, finished.status) == ("recorded", TaskStatus.COMPLETED)
    assert (await records.begin(task_job, uuid4(), "w", 1)).state == "done"
    status = await sql.fetchval("select media_status from generations where id::text = $1", generation)
    assert status == "completed"


async def test_a_retry_begins_with_the_stored_files(records):
    task_job, lease = job(str(uuid4())), uuid4()
    await records.begin(task_job, lease, "w", 1)
    late = FailedFile(
        url=URLS[1] + "?sig=topsecret", error="503", code="source_unavailable", retryable=True, position=1
    )
    await records.finish(task_job, lease, TaskStatus.RETRYING, [stored(task_job, 0)], [late])
    reply = await records.begin(task_job, uuid4(), "w", 2)
    assert [file.position for file in reply.files] == [0]
    assert reply.files[0] == stored(task_job, 0)


async def test_a_completed_task_stays_completed_when_it_is_requeued(records, sql):
    task_job, lease = job(str(uuid4())), uuid4()
    await records.begin(task_job, lease, "w", 1)
    await records.finish(task_job, lease, TaskStatus.COMPLETED, [stored(task_job, 0), stored(task_job, 1)], [])
    await records.finish(task_job, lease, TaskStatus.RETRYING, [], [])
    assert await sql.fetchval("select status from outlast_tasks") == "completed"


async def test_an_earlier_failed_file_makes_the_task_partial(records, sql):
    task_job, lease = job(str(uuid4())), uuid4()
    await records.begin(task_job, lease, "w", 1)
    gone = FailedFile(
        url=URLS[0] + "?sig=topsecret",
        error="404",
        code="source_gone",
        retryable=False,
        source_key=task_job.files[0].source_key,
    )
    await records.finish(task_job, lease, TaskStatus.RETRYING, [], [gone])
    rest, lease = task_job.limited_to([task_job.files[1].source_key]), uuid4()
    await records.begin(rest, lease, "w", 2)
    finished = await records.finish(rest, lease, TaskStatus.COMPLETED, [stored(task_job, 1)], [])
    assert finished.status == TaskStatus.PARTIAL
    assert "topsecret" not in await sql.fetchval("select string_agg(t::text, '') from outlast_tasks t")


@pytest.mark.parametrize("stored_files", [0, 1])
async def test_a_skipped_file_is_listed_and_no_failure(records, sql, stored_files):
    task_job, lease = job(str(uuid4())), uuid4()
    await records.begin(task_job, lease, "w", 1)
    skipped = [
        FailedFile(url=file.url, error="noise", code=SKIPPED, retryable=False, source_key=file.source_key)
        for file in task_job.files[stored_files:]
    ]
    files = [stored(task_job, position) for position in range(stored_files)]
    finished = await records.finish(task_job, lease, TaskStatus.COMPLETED, files, skipped)
    assert finished.status == TaskStatus.COMPLETED
    result = json.loads(await sql.fetchval("select result from outlast_tasks"))
    assert [(failed["code"], failed["error"]) for failed in result["failed_files"]] == [
        (SKIPPED, "noise") for _ in skipped
    ]
    assert await sql.fetchval("select error_code from outlast_tasks") is None


async def test_begin_with_another_lease_is_busy_and_finish_is_lost(records):
    task_job, lease = job(str(uuid4())), uuid4()
    await records.begin(task_job, lease, "w", 1)
    busy = await records.begin(task_job, uuid4(), "w2", 1)
    assert busy.state == "busy"
    assert 0 < busy.retry_after <= 30
    assert (await records.finish(task_job, uuid4(), TaskStatus.COMPLETED, [], [])).state == "lost"


async def test_a_heartbeat_returns_the_lost_leases(records):
    task_job, lease, stranger = job(str(uuid4())), uuid4(), uuid4()
    await records.begin(task_job, lease, "w", 1)
    reply = await records.heartbeat("w", [lease, stranger], {"active": []})
    assert (reply.lost, reply.cancelled) == ([str(stranger)], [])


async def test_a_stored_file_is_found_for_its_user_and_profile_only(records, sql):
    await sql.execute(
        "set role none; drop schema storage cascade"
    )  # otherwise only files whose object exists are found
    task_job, lease = job(str(uuid4())), uuid4()
    await records.begin(task_job, lease, "w", 1)
    await records.finish(task_job, lease, TaskStatus.COMPLETED, [stored(task_job, 0), stored(task_job, 1)], [])
    known = await records.find_stored("u", "0" * 64, task_job.profile.key)
    assert known is not None
    assert known.path == stored(task_job, 0).path
    assert await records.find_stored("v", "0" * 64, task_job.profile.key) is None
    assert await records.find_stored("u", "0" * 64, "auto-q10-strip") is None


async def test_a_fal_job_with_an_unknown_request_id_has_no_generation(records):
    unknown = job("g", generation_id=None, request_id=str(uuid4()), source="fal")
    assert (await records.begin(unknown, uuid4(), "w", 1)).state == "no_generation"


async def test_inline_content_is_read_from_the_generations_row(records, sql):
    uri = "data:image/png;base64,iVBORw0KGgo="
    generation = await sql.fetchval(
        "insert into generations (output) values (jsonb_build_object('images', jsonb_build_array("
        "jsonb_build_object('url', $1::text)))) returning id::text",
        uri,
    )
    assert await records.read_data_uri("generations", generation, data_reference(uri)) == uri
    with pytest.raises(SourceGoneError):
        await records.read_data_uri("generations", generation, data_reference(uri + "x"))


async def test_inline_content_that_is_not_in_the_row_yet_is_retryable(records, sql):
    """FAL's webhook can arrive before the application has written the output."""
    uri = "data:image/png;base64,iVBORw0KGgo="
    generation = await sql.fetchval("insert into generations (output) values (null) returning id::text")
    with pytest.raises(SourceGoneError) as failed:
        await records.read_data_uri("generations", generation, data_reference(uri))
    assert failed.value.retryable
    await sql.execute("update generations set output = $1 where id::text = $2", json.dumps({"audio": uri}), generation)
    assert await records.read_data_uri("generations", generation, data_reference(uri)) == uri


async def test_an_unreachable_database_is_retryable(records, gateway):
    await gateway.stop()
    with pytest.raises(DatabaseUnavailableError) as failed:
        await records.begin(job("g"), uuid4(), "w", 1)
    assert failed.value.retryable


async def test_a_missing_function_raises_an_error_that_names_the_migrations(records, sql):
    await sql.execute("drop function outlast_heartbeat")
    with pytest.raises(DatabaseUnavailableError, match="migrations"):
        await records.heartbeat("w", [], {})


async def test_of_concurrent_begins_one_runs_and_the_others_are_busy(records):
    task_job = job(str(uuid4()))
    replies = await asyncio.gather(*(records.begin(task_job, uuid4(), "w", 1) for _ in range(10)))
    assert sorted(reply.state for reply in replies) == ["busy"] * 9 + ["run"]
