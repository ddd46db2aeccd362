"""One test suite for all storages: a folder, and Supabase (the gateway, or with `make test-live` a real project)."""

import asyncio
import contextlib
import hashlib
import io
import os

import aiohttp
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from handlers.database.client import Supabase
from handlers.errors import StorageRejectedError, StorageUnavailableError
from handlers.settings import MediaSettings, SettingsError
from handlers.storage import FolderStorage, object_path
from handlers.storage.upload_file import UploadFile
from tests.contracts.project import LIVE, Project

CONTENT = b"\x89PNG and so on" * 1000
LARGE = os.urandom(7 * 1024 * 1024)


def path_of(content, extension="png"):
    return object_path("user", hashlib.sha256(content).hexdigest(), extension)


PATH = path_of(CONTENT)


if LIVE:

    @pytest.fixture
    async def project():
        async with aiohttp.ClientSession() as http:
            created = Project.real(http)
            yield created
            await created.remove_buckets()

else:

    @pytest.fixture
    async def project(database_url, tmp_path):
        async with (
            aiohttp.ClientSession() as http,
            Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as gateway,
        ):
            yield Project(http, gateway.url, gateway.service_role_key)


def settings(project, bucket, **more):
    return MediaSettings(
        _env_file=None,
        **{"supabase_url": project.url, "supabase_service_role_key": SecretStr(project.service)} | more,
        storage_bucket=bucket,
    )


@pytest.fixture
async def supabase(project):
    async with Supabase(settings(project, await project.make_bucket("main"))) as created:
        yield created


@pytest.fixture(params=["folder", "supabase"])
def storage(request, supabase, tmp_path):
    return supabase if request.param == "supabase" else FolderStorage(tmp_path / "out", "generations")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "prepared"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    return path


async def test_a_stored_object_exists(storage, file):
    assert not await storage.exists(PATH)
    assert await storage.put(PATH, UploadFile.from_path(file, "image/png"))
    assert await storage.exists(PATH)


async def test_storing_an_existing_object_returns_false(storage, file):
    assert await storage.put(PATH, UploadFile.from_path(file, "image/png"))
    assert await storage.put(PATH, UploadFile.from_path(file, "image/png")) is False


async def test_a_large_file_is_stored_and_exists(storage, large):
    path = path_of(LARGE)
    assert await storage.put(path, UploadFile.from_path(large, "video/mp4"))
    assert await storage.exists(path)
    assert await storage.put(path, UploadFile.from_path(large, "video/mp4")) is False


async def test_an_empty_file_is_stored(storage, tmp_path):
    (tmp_path / "empty").touch()
    assert await storage.put("user/none.bin", UploadFile.from_path(tmp_path / "empty", "text/plain"))
    assert await storage.put("user/none.bin", UploadFile.from_path(tmp_path / "empty", "text/plain")) is False


async def test_concurrent_uploads_of_one_file_all_succeed(storage, file):
    await asyncio.gather(*(storage.put(PATH, UploadFile.from_path(file, "image/png")) for _ in range(8)))
    assert await storage.exists(PATH)


async def test_remove_deletes_objects_and_ignores_missing_ones(storage, file):
    await storage.put(PATH, UploadFile.from_path(file, "image/png"))
    await storage.remove([PATH, path_of(b"never stored")])
    assert not await storage.exists(PATH)


@pytest.mark.parametrize("existing", [CONTENT[:-1], CONTENT[:-1] + b"?", b""], ids=["cut short", "another", "empty"])
async def test_a_different_object_at_the_path_is_replaced(storage, file, tmp_path, existing):
    (tmp_path / "existing").write_bytes(existing)
    await storage.put(PATH, UploadFile.from_path(tmp_path / "existing", "image/png"))
    assert await storage.put(PATH, UploadFile.from_path(file, "image/png"))
    assert await storage.put(PATH, UploadFile.from_path(file, "image/png")) is False


async def stored(project, supabase, path):
    status, body, headers = await project.request("GET", f"/storage/v1/object/{supabase.bucket}/{path}")
    assert status == 200
    return body, headers["Content-Type"], headers["Cache-Control"]


@pytest.mark.parametrize(
    ("content", "content_type", "cache_control"),
    [
        (CONTENT, "image/png", "max-age=31536000, immutable"),
        (LARGE, "model/gltf-binary", "max-age=31536000"),
    ],
)
async def test_supabase_stores_bytes_type_cache_control_and_hash(
    project, supabase, tmp_path, content, content_type, cache_control
):
    path = path_of(content)
    (tmp_path / "file_to_store").write_bytes(content)
    await supabase.put(path, UploadFile.from_path(tmp_path / "file_to_store", content_type))
    assert await stored(project, supabase, path) == (content, content_type, cache_control)
    _, info, _ = await project.request("GET", f"/storage/v1/object/info/{supabase.bucket}/{path}")
    assert info["metadata"] == {"sha256": hashlib.sha256(content).hexdigest()}
    await supabase.fetch(path, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == content


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
async def test_a_wrong_object_in_supabase_is_replaced(project, supabase, tmp_path, content):
    path = path_of(content)
    url_path = f"/storage/v1/object/{supabase.bucket}/{path}"
    await project.request(
        "POST", url_path, data=io.BytesIO(content[: len(content) // 2]), headers={"Content-Type": "video/mp4"}
    )
    (tmp_path / "file_to_store").write_bytes(content)
    assert await supabase.put(path, UploadFile.from_path(tmp_path / "file_to_store", "video/mp4"))
    assert (await stored(project, supabase, path))[0] == content


async def test_an_object_with_the_wrong_type_is_replaced(project, supabase, file):
    url_path = f"/storage/v1/object/{supabase.bucket}/{PATH}"
    await project.request("POST", url_path, data=CONTENT, headers={"Content-Type": "text/plain;charset=UTF-8"})
    assert await supabase.put(PATH, UploadFile.from_path(file, "image/png"))
    assert (await stored(project, supabase, PATH))[1] == "image/png"


@pytest.mark.parametrize("size", ["file", "large"])
@pytest.mark.parametrize(
    ("limits", "message"),
    [({"file_size_limit": 1000}, "413"), ({"allowed_mime_types": ["video/*"]}, "415"), (None, "STORAGE_BUCKET")],
)
async def test_a_file_that_the_bucket_refuses_is_not_retryable(project, request, size, limits, message):
    bucket = project.bucket("none") if limits is None else await project.make_bucket("small", **limits)
    async with Supabase(settings(project, bucket)) as storage:
        with pytest.raises(StorageRejectedError, match=message) as refused:
            await storage.put(PATH, UploadFile.from_path(request.getfixturevalue(size), "image/png"))
        with pytest.raises(StorageRejectedError) if limits is None else contextlib.nullcontext():
            assert not await storage.exists(PATH)
    assert not refused.value.retryable


@pytest.mark.parametrize("size", ["file", "large"])
async def test_a_wrong_key_is_refused_by_the_name_of_its_setting(project, supabase, request, size):
    wrong = settings(project, supabase.bucket, supabase_service_role_key=SecretStr("a.b.c"))
    async with Supabase(wrong) as storage:
        with pytest.raises(StorageRejectedError, match="SUPABASE_SERVICE_ROLE_KEY"):
            await storage.put(PATH, UploadFile.from_path(request.getfixturevalue(size), "image/png"))


@pytest.mark.parametrize("size", ["file", "large"])
async def test_an_invalid_object_name_is_refused(supabase, request, size):
    with pytest.raises(StorageRejectedError, match="Invalid key"):
        await supabase.put("user/a[1].png", UploadFile.from_path(request.getfixturevalue(size), "image/png"))


async def test_an_unreachable_storage_is_unavailable(file):
    unreachable = {"supabase_url": "http://127.0.0.1:9", "supabase_service_role_key": SecretStr("a.b.c")}
    async with Supabase(MediaSettings(_env_file=None, **unreachable)) as storage:
        for operation in (
            storage.put(PATH, UploadFile.from_path(file, "image/png")),
            storage.exists(PATH),
            storage.remove([PATH]),
        ):
            with pytest.raises(StorageUnavailableError):
                await operation


def test_supabase_without_url_and_key_is_refused():
    with pytest.raises(SettingsError, match="SUPABASE_SERVICE_ROLE_KEY"):
        Supabase(MediaSettings(_env_file=None, supabase_url=None, supabase_service_role_key=None))


@pytest.mark.parametrize(
    ("user", "folder"),
    [
        *((name, name) for name in ("0d3a0d3a-0000-4000-8000-000000000001", "user_2aB", "42", "a.b+1@c.d", "x:y")),
        *((None, "anonymous"), ("anonymous", "=61nonymous")),
        *(("auth0|5f", "auth0=7C5f"), ("a=7C5f", "a=3D7C5f"), ("\u00fc/", "=C3=BC=2F"), (".x", "=2Ex"), ("-", "-")),
    ],
)
def test_the_object_path_is_user_and_content_hash(user, folder):
    assert object_path(user, "ab" + "0" * 62, "jpg") == f"{folder}/ab/ab{'0' * 62}.jpg"


@pytest.mark.parametrize("user", ["../../etc", "a/b", "ünï", "..", "", "x" * 201])
def test_a_user_name_is_one_safe_folder_name(user):
    folder = object_path(user, "ab" + "0" * 62, "jpg").split("/")[:-2]
    assert len(folder) == 1
    assert folder[0].isascii()
    assert folder[0] not in {"", ".", ".."}
