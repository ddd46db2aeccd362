"""One suite for every Storage: a folder, and Supabase's client against the gateway."""

import asyncio
import hashlib

import aiohttp
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from handlers.errors import StorageRejectedError, StorageUnavailableError
from handlers.settings import MediaSettings, SettingsError
from handlers.storage import FolderStorage, object_path
from handlers.supabase import Supabase

CONTENT = b"\x89PNG and so on" * 1000
PATH = object_path("user", hashlib.sha256(CONTENT).hexdigest(), "png")


@pytest.fixture
async def gateway(database_url, tmp_path):
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as running:
        yield running


async def make_bucket(gateway, name, **limits):
    key = gateway.service_role_key
    async with (
        aiohttp.ClientSession(headers={"apikey": key, "Authorization": f"Bearer {key}"}) as session,
        session.post(f"{gateway.url}/storage/v1/bucket", json={"id": name, "name": name} | limits) as response,
    ):
        assert response.status == 200


def settings(gateway, bucket="generations", **more):
    return MediaSettings(
        _env_file=None,
        supabase_url=gateway.url,
        supabase_service_role_key=SecretStr(gateway.service_role_key),
        storage_bucket=bucket,
        **more,
    )


@pytest.fixture
async def supabase(gateway):
    await make_bucket(gateway, "generations")
    async with Supabase(settings(gateway)) as made:
        yield made


@pytest.fixture(params=["folder", "supabase"])
def storage(request, supabase, tmp_path):
    return supabase if request.param == "supabase" else FolderStorage(tmp_path / "out", "generations")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "prepared"
    path.write_bytes(CONTENT)
    return path


async def test_what_is_put_is_there(storage, file):
    assert not await storage.exists(PATH)
    assert await storage.put(PATH, file, "image/png")
    assert await storage.exists(PATH)


async def test_being_there_already_is_as_good(storage, file):
    assert await storage.put(PATH, file, "image/png")
    assert await storage.put(PATH, file, "image/png") is False


async def test_many_at_once_store_one(storage, file):
    await asyncio.gather(*(storage.put(PATH, file, "image/png") for _ in range(8)))
    assert await storage.exists(PATH)


async def test_storage_names_its_bucket(storage):
    assert storage.bucket == "generations"


async def test_supabase_keeps_type_cache_and_bytes(gateway, file):
    await make_bucket(gateway, "generations")
    async with Supabase(settings(gateway)) as storage:
        await storage.put(PATH, file, "image/png")
    key = gateway.service_role_key
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}", "apikey": key}) as session,
        session.get(f"{gateway.url}/storage/v1/object/generations/{PATH}") as response,
    ):
        assert await response.read() == CONTENT
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["Cache-Control"] == "max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"file_size_limit": 1000}, "413"), ({"allowed_mime_types": ["video/*"]}, "415"), (None, "STORAGE_BUCKET")],
)
async def test_supabase_tells_what_it_will_never_take(gateway, file, limits, said):
    if limits is not None:
        await make_bucket(gateway, "generations", **limits)
    async with Supabase(settings(gateway)) as storage:
        with pytest.raises(StorageRejectedError, match=said) as refused:
            await storage.put(PATH, file, "image/png")
    assert not refused.value.retryable


async def test_a_wrong_key_is_told(gateway, file):
    wrong = settings(gateway).model_copy(update={"supabase_service_role_key": SecretStr("a.b.c")})
    async with Supabase(wrong) as storage:
        with pytest.raises(StorageRejectedError, match="403"):
            await storage.put(PATH, file, "image/png")


async def test_nobody_answering_is_for_later(gateway, file):
    away = settings(gateway)
    await gateway.stop()
    async with Supabase(away) as storage:
        with pytest.raises(StorageUnavailableError):
            await storage.put(PATH, file, "image/png")
        with pytest.raises(StorageUnavailableError):
            await storage.exists(PATH)


def test_supabase_needs_url_and_key():
    with pytest.raises(SettingsError, match="SUPABASE_SERVICE_ROLE_KEY"):
        Supabase(MediaSettings(_env_file=None))


@pytest.mark.parametrize(
    ("user", "folder"),
    [("0d3a0d3a-0000-4000-8000-000000000001", "0d3a0d3a-0000-4000-8000-000000000001"), (None, "anonymous")],
)
def test_an_objects_path_is_its_content(user, folder):
    assert object_path(user, "ab" + "0" * 62, "jpg") == f"{folder}/ab/ab{'0' * 62}.jpg"


@pytest.mark.parametrize("user", ["../../etc", "a/b", "ünï", "..", "", "x" * 200])
def test_no_user_name_leaves_its_folder(user):
    folder = object_path(user, "ab" + "0" * 62, "jpg").split("/")[:-2]
    assert len(folder) == 1
    assert folder[0].isascii()
    assert folder[0] not in {"", ".", ".."}
