"""The Python API `AsyncFileProcessor` with Supabase: a batch is recorded as a task."""

import asyncio

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from deploy.local.source import Source
from handlers.async_file_processor import AsyncFileProcessor
from handlers.database.client import Supabase
from handlers.database.task_records import TaskRecords
from handlers.errors import DatabaseUnavailableError, FileProcessingError, StorageUnavailableError
from handlers.settings import MediaSettings
from handlers.storage.upload_file import UploadFile
from tests.time_limits import WAIT_SECONDS


@pytest.fixture
async def gateway(database_url, tmp_path):
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as running:
        key = running.service_role_key
        async with (
            aiohttp.ClientSession(headers={"apikey": key, "Authorization": f"Bearer {key}"}) as session,
            session.post(f"{running.url}/storage/v1/bucket", json={"id": "generations", "name": "generations"}),
        ):
            pass
        yield running


@pytest.fixture
async def own_source(samples):
    async with Source(samples[0].path.parent) as serving:
        yield serving


@pytest.fixture
async def processor(gateway, own_source):
    settings = MediaSettings(
        _env_file=None,
        supabase_url=gateway.url,
        supabase_service_role_key=SecretStr(gateway.service_role_key),
        source_allowlist=own_source.url,
        codec_processes=1,
    )
    async with AsyncFileProcessor(settings) as created:
        yield created


@pytest.fixture
async def sql(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_repeated_batch_returns_the_stored_files_without_its_source(processor, own_source, sql):
    urls = [f"{own_source.url}/files/{name}" for name in ("tone.wav", "photo.jpg")]
    first = await processor.process_file_batch(urls, "u", "g")
    assert first.success
    await own_source.stop()
    calls = []
    second = await processor.process_file_batch(urls, "u", "g", 3, lambda *now: calls.append(now))
    assert second.processed_files == first.processed_files
    assert len(calls) == 2
    assert await sql.fetchval("select status from outlast_tasks") == "completed"


@pytest.mark.parametrize("others", [(), ("tone.mp3",)])
async def test_files_from_known_urls_are_recorded_for_another_generation(processor, own_source, sql, others):
    settings = processor.settings.model_copy(update={"immutable_sources": (own_source.url,)})
    calls, kinds = [], []
    async with AsyncFileProcessor(settings) as immutable:
        immutable._observer.file = lambda kind, outcome: kinds.append((str(kind), outcome))
        urls = [f"{own_source.url}/files/{name}" for name in ("tone.wav", "photo.jpg")]
        first = await immutable.process_file_batch(urls, "u", "g1")
        kinds.clear()
        urls += [f"{own_source.url}/files/{name}" for name in others]
        second = await immutable.process_file_batch(urls, "u", "g2", 3, lambda *now: calls.append(now[:2]))
    assert second.success
    assert [file.path for file in second.processed_files][:2] == [file.path for file in first.processed_files]
    assert sorted(kinds) == [("audio", "deduplicated"), *[("audio", "stored")] * len(others), ("image", "deduplicated")]
    assert len(calls) == len(urls)
    assert own_source.hits["tone.wav"] == own_source.hits["photo.jpg"] == 1
    statuses = await sql.fetch("select status from outlast_tasks")
    assert [row["status"] for row in statuses] == ["completed"] * 2


async def test_a_repeated_batch_processes_only_failed_files(processor, own_source, sql):
    urls = [f"{own_source.url}/files/tone.wav", f"{own_source.url}/files/tone.mp3?fail_first=1"]
    first = await processor.process_file_batch(urls, "u", "g")
    assert [failed["code"] for failed in first.failed_files] == ["source_unavailable"]
    assert await sql.fetchval("select status from outlast_tasks") == "partial"
    second = await processor.process_file_batch(urls, "u", "g")
    assert (second.success, len(second.processed_files)) == (True, 2)
    assert own_source.hits["tone.wav"] == 1
    assert await sql.fetchval("select status from outlast_tasks") == "completed"


async def test_a_cancelled_batch_releases_the_lease_of_its_task(processor, own_source, sql):
    url = f"{own_source.url}/files/photo.png?slow=20000"
    task = asyncio.create_task(processor.process_file_batch([url], "u", "g"))
    async with asyncio.timeout(WAIT_SECONDS):
        while not await sql.fetchval("select count(*) from outlast_tasks where status = 'running'"):
            await asyncio.sleep(0.02)
    with pytest.raises(FileProcessingError, match="busy"):
        await processor.process_file_batch([url], "u", "g")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await sql.fetchval("select lease from outlast_tasks") is None


@pytest.fixture(params=["<html>Sign in to the proxy</html>", '{"state": 7}', "[]", ""])
async def proxy(request):
    """A server between the worker and Supabase that answers every request with 200 and its own page."""

    async def answer(_request):
        return web.Response(text=request.param, content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_response_that_is_not_supabases_is_retryable(proxy, tmp_path):
    settings = MediaSettings(_env_file=None, supabase_url=proxy, supabase_service_role_key=SecretStr("a.b.c"))
    file = tmp_path / "file"
    file.write_bytes(b"x")
    async with Supabase(settings) as supabase:
        with pytest.raises(DatabaseUnavailableError):
            await TaskRecords(supabase).find_stored("u", "0" * 64, "auto")
        with pytest.raises(StorageUnavailableError):
            await supabase.put("a/b", UploadFile.from_path(file, "image/png"))
