"""A file that the user has already from the same immutable URL is not downloaded again, and never taken wrongly."""

import asyncio
import shutil
from uuid import UUID, uuid4

import asyncpg
import pytest

from deploy.local.source import Source
from schemas.jobs import Profile, SkippedFile
from tests.captured_logs import capture_log
from tests.metric_values import metric_value
from tests.time_limits import WAIT_SECONDS

REFUSE = """
create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'rows are final'; end $$;
create trigger refuse before update on public.generations for each row execute function public.refuse();
"""


@pytest.fixture
async def fal(samples, tmp_path):
    """A source of the test's own, whose files a test can change."""
    folder = tmp_path / "fal"
    folder.mkdir()
    for sample in samples:
        if sample.path.name in {"tone.wav", "photo.png", "photo.jpg"}:
            shutil.copy(sample.path, folder)
    async with Source(folder) as source:
        yield source


@pytest.fixture
def immutable(request, fal):
    """Has `worker_env` take the source for an immutable one."""
    request.node.add_marker(pytest.mark.settings(immutable_sources=(fal.url,), source_allowlist=(fal.url,)))


@pytest.fixture
def mutable(request, fal):
    """Has `worker_env` allow the source."""
    request.node.add_marker(pytest.mark.settings(source_allowlist=(fal.url,)))


async def send(env, *urls, user=1, **more):
    """Send a job for a generation that has a row, and return it."""
    row = "insert into generations (user_id, status) values ($1, 'completed') returning id::text"
    owner = UUID(int=user)
    generation = await env.sql.fetchval(row, owner)
    job = env.job(*urls, user_id=str(owner), generation_id=generation, task_id=uuid4(), **more)
    await env.send(job)
    return job


async def run(env, *urls, **more):
    """Send a job, wait until it is completed, and return it."""
    return await wait_for(env, await send(env, *urls, **more))


async def wait_for(env, job):
    """Wait until a job is completed, and return it."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (await env.sql.fetchval("select status from outlast_tasks where task_id = $1", job.task_id)) not in {
            "completed",
            "partial",
            "failed",
        }:
            await asyncio.sleep(0.02)
    assert (await env.task(job))["status"] == "completed"
    return job


async def files(env, job):
    """Return the files of a job, in order of position."""
    rows = "select * from outlast_files where generation_id = $1 order by position"
    return [dict(row) for row in await env.sql.fetch(rows, job.generation_id)]


def stage_counts(env, *names):
    """How often each step of the pipeline has run."""
    counts = []
    for name in names:
        samples = env.metrics.stage_duration.labels(name).collect()[0].samples
        counts.append(next(sample.value for sample in samples if sample.name.endswith("_count")))
    return counts


def paths(env):
    """Return the paths of the objects on the disk of the gateway."""
    bucket = env.gateway_dir / "generations"
    return sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())


@pytest.fixture
def env(worker_env, tmp_path):
    worker_env.gateway_dir = tmp_path / "objects"
    return worker_env


@pytest.mark.usefixtures("immutable")
async def test_a_duplicate_is_neither_downloaded_nor_uploaded(fal, env):
    first = await run(env, f"{fal.url}/files/photo.png")
    again = await run(env, f"{fal.url}/files/photo.png")
    assert fal.hits["photo.png"] == 1
    assert stage_counts(env, "download", "detect", "prepare", "upload") == [1, 1, 1, 1]
    (old,), (new,) = await files(env, first), await files(env, again)
    own = {"id", "generation_id", "task_id", "deduplicated", "created_at", "updated_at"}
    assert {name: new[name] for name in new if name not in own} == {name: old[name] for name in old if name not in own}
    assert all(new[name] != old[name] for name in ("id", "generation_id", "task_id"))
    assert (old["deduplicated"], new["deduplicated"]) == (False, True)
    assert await env.sql.fetchval("select refs from outlast_objects") == 2
    status = await env.sql.fetchval("select media_status from generations where id = $1", UUID(again.generation_id))
    assert status == "completed"
    assert metric_value(env.metrics.deduplicated) == 1
    assert metric_value(env.metrics.files.labels("image", "deduplicated")) == 1
    progress = (await env.task(again))["progress"]
    assert '"completed": 1' in progress, "the same as of other files"


@pytest.mark.usefixtures("immutable")
async def test_a_duplicate_is_recorded_by_the_first_call(fal, env, monkeypatch):
    await run(env, f"{fal.url}/files/photo.png")
    monkeypatch.setattr(env.records, "finish", None)
    await run(env, f"{fal.url}/files/photo.png")
    await env.wait_for_outcome("completed", 2)
    assert metric_value(env.metrics.jobs_in_progress) == 0
    ages = env.metrics.job_age.collect()[0].samples
    assert next(sample.value for sample in ages if sample.name.endswith("_count")) == 2


@pytest.mark.usefixtures("immutable")
async def test_a_row_that_refuses_the_media_of_a_duplicate_is_counted(fal, env):
    await run(env, f"{fal.url}/files/photo.png")
    await env.sql.execute(REFUSE)
    again = await run(env, f"{fal.url}/files/photo.png")
    assert (await files(env, again))[0]["deduplicated"]
    await env.wait_for_outcome("completed", 2)
    assert metric_value(env.metrics.errors.labels("row_rejected")) == 1


@pytest.mark.usefixtures("immutable")
async def test_skipped_files_beside_a_duplicate_are_logged_and_recorded(fal, env):
    names = {"source_url": "https://other.example/b.png", "source_key": "b", "original_filename": "b.png"}
    skipped = SkippedFile(position=1, field="images[1].url", code="source_forbidden", **names)
    with capture_log(env.settings) as lines:
        for _ in range(2):
            job = await run(env, f"{fal.url}/files/photo.png", skipped=(skipped,), total_files=2)
        await env.wait_for_outcome("completed", 2)
    logged = [(line["files"], line["codes"]) for line in lines.read("files skipped")]
    assert logged == [(1, ["source_forbidden"])] * 2
    codes = "select jsonb_path_query_array(media, '$[*].code') ->> 0 from generations where id = $1"
    assert await env.sql.fetchval(codes, UUID(job.generation_id)) == "source_forbidden"


@pytest.mark.usefixtures("immutable")
async def test_of_jobs_that_arrive_together_one_downloads_the_file(fal, env):
    jobs = [await send(env, f"{fal.url}/files/photo.png", source="supabase") for _ in range(6)]
    for job in jobs:
        await wait_for(env, job)
    assert fal.hits["photo.png"] == 1
    stored = [file for job in jobs for file in await files(env, job)]
    assert sorted(file["deduplicated"] for file in stored) == [False] + [True] * 5
    assert await env.sql.fetchval("select refs from outlast_objects") == 6


@pytest.mark.usefixtures("immutable")
async def test_jobs_that_arrive_together_are_processed_although_the_first_one_fails(fal, env):
    url = f"{fal.url}/files/photo.png?fail_first=1"
    jobs = [await send(env, url) for _ in range(3)]
    for job in jobs:
        await wait_for(env, job)
    assert len({(await files(env, job))[0]["path"] for job in jobs}) == 1
    assert metric_value(env.metrics.retries.labels("source_unavailable")) == 1


@pytest.mark.usefixtures("immutable")
async def test_of_several_files_only_the_unknown_ones_are_downloaded(fal, env):
    await run(env, f"{fal.url}/files/photo.png")
    urls = [f"{fal.url}/files/{name}" for name in ("tone.wav", "photo.png", "photo.jpg")]
    stored = await files(env, await run(env, *urls))
    assert [(file["position"], file["original_filename"]) for file in stored] == [
        (0, "tone.wav"),
        (1, "photo.png"),
        (2, "photo.jpg"),
    ]
    assert [file["deduplicated"] for file in stored] == [False, True, False]
    assert fal.hits == {"photo.png": 1, "tone.wav": 1, "photo.jpg": 1}


@pytest.mark.usefixtures("immutable")
async def test_a_url_that_was_lately_downloaded_for_the_user_is_not_requested_early(fal, env):
    for _ in range(3):
        job = await run(env, f"{fal.url}/files/photo.png", source="supabase")
    assert (await files(env, job))[0]["deduplicated"]
    assert fal.hits["photo.png"] == 1
    await run(env, f"{fal.url}/files/photo.png", user=2, source="supabase")
    assert fal.hits["photo.png"] == 2


@pytest.mark.usefixtures("immutable")
async def test_a_duplicate_is_stored_although_its_early_download_fails(fal, env):
    await run(env, f"{fal.url}/files/photo.png")
    await fal.stop()
    job = await run(env, f"{fal.url}/files/photo.png", source="supabase")
    assert (await files(env, job))[0]["deduplicated"]
    assert stage_counts(env, "download", "prepare") == [1, 1]


@pytest.mark.usefixtures("mutable")
async def test_bytes_that_changed_at_a_mutable_source_are_stored(fal, env):
    first = await run(env, f"{fal.url}/files/photo.png")
    shutil.copy(fal.folder / "photo.jpg", fal.folder / "photo.png")
    again = await run(env, f"{fal.url}/files/photo.png")
    (old,), (new,) = await files(env, first), await files(env, again)
    assert old["source_key"] == new["source_key"]
    assert old["source_sha256"] != new["source_sha256"]
    assert len(paths(env)) == 2


@pytest.mark.usefixtures("immutable")
@pytest.mark.parametrize("more", [{"user": 2}, {"profile": Profile(quality=60)}], ids=["user", "profile"])
async def test_the_file_of_another_user_or_profile_is_downloaded_again(fal, env, more):
    await run(env, f"{fal.url}/files/photo.png")
    (file,) = await files(env, await run(env, f"{fal.url}/files/photo.png", **more))
    assert not file["deduplicated"]
    assert fal.hits["photo.png"] == 2
    assert len(paths(env)) == 2


@pytest.mark.usefixtures("immutable")
async def test_a_file_whose_object_was_removed_is_downloaded_again(fal, env):
    await run(env, f"{fal.url}/files/photo.png")
    before = paths(env)
    await env.parts.supabase.remove(before)
    (file,) = await files(env, await run(env, f"{fal.url}/files/photo.png"))
    assert not file["deduplicated"]
    assert (fal.hits["photo.png"], paths(env)) == (2, before)


@pytest.mark.usefixtures("immutable")
async def test_an_object_that_is_removed_after_begin_is_downloaded_at_the_next_attempt(fal, env, monkeypatch):
    await run(env, f"{fal.url}/files/photo.png")
    before, begin, known = paths(env), env.records.begin, []

    async def begin_and_remove(*arguments, **more):
        reply = await begin(*arguments, **more)
        known.append(len(reply.known))
        if reply.known:
            await env.parts.supabase.remove([file.path for file in reply.known])
        return reply

    monkeypatch.setattr(env.records, "begin", begin_and_remove)
    (file, _) = await files(env, await run(env, f"{fal.url}/files/photo.png", f"{fal.url}/files/tone.wav"))
    assert known == [1, 0]
    assert metric_value(env.metrics.retries.labels("storage_unavailable")) == 1
    assert not file["deduplicated"]
    assert fal.hits["photo.png"] == 2
    assert set(before) < set(paths(env))


@pytest.mark.usefixtures("immutable")
async def test_an_object_that_is_being_deleted_after_begin_is_downloaded_at_the_next_attempt(fal, env, monkeypatch):
    await run(env, f"{fal.url}/files/photo.png")
    begin, replies, sql = env.records.begin, [], await asyncpg.connect(env.dsn)

    async def begin_and_mark(*arguments, **more):
        reply = await begin(*arguments, **more)
        replies.append((reply.state, len(reply.known)))
        await sql.execute("update outlast_objects set state = $1", "deleting" if reply.known else "live")
        return reply

    monkeypatch.setattr(env.records, "begin", begin_and_mark)
    await run(env, f"{fal.url}/files/photo.png", f"{fal.url}/files/tone.wav")
    await sql.close()
    assert replies == [("run", 1), ("run", 0)], "the failed attempt has released its lease"
    assert fal.hits["photo.png"] == 2


@pytest.mark.usefixtures("immutable")
async def test_a_binding_with_other_folders_gets_an_object_of_its_own(fal, env):
    await run(env, f"{fal.url}/files/photo.png")
    await env.sql.execute("update outlast_bindings set object_path = 'shared'")
    (file,) = await files(env, await run(env, f"{fal.url}/files/photo.png"))
    assert file["path"].startswith("shared/")
    assert fal.hits["photo.png"] == 2
    (file,) = await files(env, await run(env, f"{fal.url}/files/photo.png"))
    assert (file["path"].startswith("shared/"), fal.hits["photo.png"]) == (True, 2)
