"""StorageService and GenerationService, with and without Supabase."""

import hashlib
import json
from uuid import uuid4

import aiohttp
import asyncpg
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from handlers.async_file_processor import AsyncFileProcessor
from handlers.errors import FileCorruptedError, FileProcessingError, FileTypeNotSupportedError
from handlers.generation_service import GenerationService
from handlers.settings import MediaSettings, SettingsError
from handlers.storage_service import StorageService
from schemas.storage import ContentType, FileUploadRequest, StorageBucket


@pytest.fixture
async def gateway(database_url, tmp_path):
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as running:
        key = running.service_role_key
        async with aiohttp.ClientSession(headers={"apikey": key, "Authorization": f"Bearer {key}"}) as session:
            for name in ("generations", "other"):
                async with session.post(f"{running.url}/storage/v1/bucket", json={"id": name, "name": name}):
                    pass
        yield running


@pytest.fixture
def with_supabase(gateway, source):
    return MediaSettings(
        _env_file=None,
        supabase_url=gateway.url,
        supabase_service_role_key=SecretStr(gateway.service_role_key),
        source_allowlist=source.url,
        codec_processes=1,
    )


@pytest.fixture
def without_supabase(source, tmp_path):
    return MediaSettings(_env_file=None, out_dir=tmp_path / "out", source_allowlist=source.url, codec_processes=1)


@pytest.fixture
async def sql(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def upload_request(data, content_type=ContentType.PNG, **more):
    fields = {"filename": "mine.png", "content_type": content_type, "file_size": len(data)} | more
    return FileUploadRequest(**fields)


@pytest.fixture
def picture(samples):
    return next(sample for sample in samples if sample.content_type == "image/png").path.read_bytes()


async def test_an_uploaded_file_is_stored_unchanged_and_recorded(with_supabase, sql, tmp_path, picture):
    user = uuid4()
    async with AsyncFileProcessor(with_supabase) as processor:
        service = StorageService(processor)
        stored = await service.upload_file(
            user, picture, upload_request(picture, bucket_name=StorageBucket.GENERATIONS)
        )
        again = await service.upload_file(user, picture, upload_request(picture))
        other = await service.upload_file(user, picture, upload_request(picture, bucket_name="other"))
    assert (stored.original_filename, stored.content_type, stored.file_size) == ("mine.png", "image/png", len(picture))
    assert stored.sha256 == hashlib.sha256(picture).hexdigest()
    assert stored.path == f"{user}/{stored.sha256[:2]}/{stored.sha256}.png"
    assert again.id == stored.id != other.id
    for bucket in ("generations", "other"):
        assert (tmp_path / "objects" / bucket / stored.path).read_bytes() == picture
    rows = await sql.fetch("select bucket, refs from outlast_objects order by bucket")
    assert [tuple(row) for row in rows] == [("generations", 1), ("other", 1)]


async def test_without_supabase_a_file_is_stored_in_the_folder(without_supabase, picture):
    async with AsyncFileProcessor(without_supabase) as processor:
        stored = await StorageService(processor).upload_file(None, picture, upload_request(picture))
    assert (without_supabase.out_dir / stored.path).read_bytes() == picture
    assert stored.path.startswith("anonymous/")


async def test_an_upload_that_differs_from_its_request_is_refused(without_supabase, picture):
    cut = picture[: len(picture) // 2]
    async with AsyncFileProcessor(without_supabase) as processor:
        service = StorageService(processor)
        with pytest.raises(ValueError, match="file_size is 1 bytes"):
            await service.upload_file("u", picture, upload_request(picture, file_size=1))
        with pytest.raises(FileTypeNotSupportedError, match="image/png, not image/jpeg"):
            await service.upload_file("u", picture, upload_request(picture, ContentType.JPEG))
        with pytest.raises(FileProcessingError) as error:
            await service.upload_file("u", cut, upload_request(cut))
    assert error.value.code == FileCorruptedError.default_code
    assert not without_supabase.out_dir.exists()


async def test_the_files_of_a_generation_are_stored_and_written_to_its_row(with_supabase, sql, source):
    user, generation = uuid4(), uuid4()
    await sql.execute("insert into generations (id, user_id, status) values ($1, $2, 'completed')", generation, user)
    urls = [f"{source.url}/files/tone.wav", f"{source.url}/files/missing.png"]
    async with AsyncFileProcessor(with_supabase) as processor:
        result = await StorageService(processor).upload_generation_result(user, generation, urls)
    assert (result.success, len(result.processed_files), len(result.failed_files)) == (False, 1, 1)
    before = await sql.fetchrow("select media, media_status from generations")
    assert before["media_status"] == "partial"
    assert [(entry["status"], entry.get("code")) for entry in json.loads(before["media"])] == [
        ("stored", None),
        ("failed", "source_gone"),
    ]
    await sql.execute("update generations set media = null")
    await GenerationService(with_supabase).update_generation_media(generation, result.processed_files)
    assert await sql.fetchrow("select media, media_status from generations") == before
    assert await sql.fetchval("select count(*) from outlast_tasks") == 1


async def test_files_of_another_generation_can_be_written_to_a_row(with_supabase, sql, source):
    async with AsyncFileProcessor(with_supabase) as processor:
        result = await processor.process_file_batch([f"{source.url}/files/tone.wav"], "u", "elsewhere")
    generation = await sql.fetchval("insert into generations (status) values ('completed') returning id")
    for _ in range(2):
        await GenerationService(with_supabase).update_generation_media(generation, result.processed_files)
    row = await sql.fetchrow("select media, media_status from generations")
    assert row["media_status"] == "completed"
    (entry,) = json.loads(row["media"])
    assert entry["path"] == result.processed_files[0].path
    assert await sql.fetchval("select refs from outlast_objects") == 2


async def test_a_missing_row_or_no_files_is_not_an_error(with_supabase, source):
    async with AsyncFileProcessor(with_supabase) as processor:
        result = await processor.process_file_batch([f"{source.url}/files/tone.wav"], "u", "g")
    service = GenerationService(with_supabase)
    assert await service.update_generation_media("g", result.processed_files) is None
    assert await service.update_generation_media("g", []) is None


async def test_writing_to_a_row_without_supabase_is_an_error(without_supabase):
    with pytest.raises(SettingsError, match="SUPABASE_URL"):
        await GenerationService(without_supabase).update_generation_media("g", [])
