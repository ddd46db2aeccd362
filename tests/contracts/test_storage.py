"""One suite for every Storage: a folder, and Supabase: the gateway, or with `make test-live` a real project."""

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
            made = Project.real(http)
            yield made
            await made.clean()

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
    async with Supabase(settings(project, await project.make_bucket("main"))) as made:
        yield made


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


async def test_what_is_put_is_there(storage, file):
    assert not await storage.exists(PATH)
    assert await storage.put(PATH, UploadFile.of(file, "image/png"))
    assert await storage.exists(PATH)


async def test_being_there_already_is_as_good(storage, file):
    assert await storage.put(PATH, UploadFile.of(file, "image/png"))
    assert await storage.put(PATH, UploadFile.of(file, "image/png")) is False


async def test_a_large_file_is_stored_and_found_like_any_other(storage, large):
    path = path_of(LARGE)
    assert await storage.put(path, UploadFile.of(large, "video/mp4"))
    assert await storage.exists(path)
    assert await storage.put(path, UploadFile.of(large, "video/mp4")) is False


async def test_nothing_is_a_file_too(storage, tmp_path):
    (tmp_path / "nothing").touch()
    assert await storage.put("user/none.bin", UploadFile.of(tmp_path / "nothing", "text/plain"))
    assert await storage.put("user/none.bin", UploadFile.of(tmp_path / "nothing", "text/plain")) is False


async def test_many_at_once_store_one(storage, file):
    await asyncio.gather(*(storage.put(PATH, UploadFile.of(file, "image/png")) for _ in range(8)))
    assert await storage.exists(PATH)


async def test_what_is_removed_is_gone_and_may_be_gone_before(storage, file):
    await storage.put(PATH, UploadFile.of(file, "image/png"))
    await storage.remove([PATH, path_of(b"never stored")])
    assert not await storage.exists(PATH)


@pytest.mark.parametrize("left", [CONTENT[:-1], CONTENT[:-1] + b"?", b""], ids=["cut short", "another", "nothing"])
async def test_what_lies_there_and_differs_is_replaced(storage, file, tmp_path, left):
    (tmp_path / "left").write_bytes(left)
    await storage.put(PATH, UploadFile.of(tmp_path / "left", "image/png"))
    assert await storage.put(PATH, UploadFile.of(file, "image/png"))
    assert await storage.put(PATH, UploadFile.of(file, "image/png")) is False


async def stored(project, supabase, path):
    status, body, headers = await project.ask("GET", f"/storage/v1/object/{supabase.bucket}/{path}")
    assert status == 200
    return body, headers["Content-Type"], headers["Cache-Control"]


@pytest.mark.parametrize(("content", "content_type"), [(CONTENT, "image/png"), (LARGE, "model/gltf-binary")])
async def test_supabase_keeps_bytes_type_cache_and_hash(project, supabase, tmp_path, content, content_type):
    path = path_of(content)
    (tmp_path / "made").write_bytes(content)
    await supabase.put(path, UploadFile.of(tmp_path / "made", content_type))
    assert await stored(project, supabase, path) == (content, content_type, "max-age=31536000, immutable")
    _, info, _ = await project.ask("GET", f"/storage/v1/object/info/{supabase.bucket}/{path}")
    assert info["metadata"] == {"sha256": hashlib.sha256(content).hexdigest()}
    await supabase.fetch(path, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
async def test_a_wrong_object_in_supabase_is_replaced_whole(project, supabase, tmp_path, content):
    path = path_of(content)
    where = f"/storage/v1/object/{supabase.bucket}/{path}"
    await project.ask(
        "POST", where, data=io.BytesIO(content[: len(content) // 2]), headers={"Content-Type": "video/mp4"}
    )
    (tmp_path / "made").write_bytes(content)
    assert await supabase.put(path, UploadFile.of(tmp_path / "made", "video/mp4"))
    assert (await stored(project, supabase, path))[0] == content


async def test_the_right_bytes_of_the_wrong_type_are_replaced(project, supabase, file):
    where = f"/storage/v1/object/{supabase.bucket}/{PATH}"
    await project.ask("POST", where, data=CONTENT, headers={"Content-Type": "text/plain;charset=UTF-8"})
    assert await supabase.put(PATH, UploadFile.of(file, "image/png"))
    assert (await stored(project, supabase, PATH))[1] == "image/png"


@pytest.mark.parametrize("size", ["file", "large"])
@pytest.mark.parametrize(
    ("limits", "said"),
    [({"file_size_limit": 1000}, "413"), ({"allowed_mime_types": ["video/*"]}, "415"), (None, "STORAGE_BUCKET")],
)
async def test_supabase_tells_what_it_will_never_take(project, request, size, limits, said):
    bucket = project.bucket("none") if limits is None else await project.make_bucket("small", **limits)
    async with Supabase(settings(project, bucket)) as storage:
        with pytest.raises(StorageRejectedError, match=said) as refused:
            await storage.put(PATH, UploadFile.of(request.getfixturevalue(size), "image/png"))
        with pytest.raises(StorageRejectedError) if limits is None else contextlib.nullcontext():
            assert not await storage.exists(PATH)
    assert not refused.value.retryable


@pytest.mark.parametrize("size", ["file", "large"])
async def test_a_wrong_key_is_told(project, supabase, request, size):
    wrong = settings(project, supabase.bucket, supabase_service_role_key=SecretStr("a.b.c"))
    async with Supabase(wrong) as storage:
        with pytest.raises(StorageRejectedError, match="SUPABASE_SERVICE_ROLE_KEY"):
            await storage.put(PATH, UploadFile.of(request.getfixturevalue(size), "image/png"))


@pytest.mark.parametrize("size", ["file", "large"])
async def test_a_name_that_storage_does_not_take_is_told(supabase, request, size):
    with pytest.raises(StorageRejectedError, match="Invalid key"):
        await supabase.put("user/a[1].png", UploadFile.of(request.getfixturevalue(size), "image/png"))


async def test_nobody_answering_is_for_later(file):
    nobody = {"supabase_url": "http://127.0.0.1:9", "supabase_service_role_key": SecretStr("a.b.c")}
    async with Supabase(MediaSettings(_env_file=None, **nobody)) as storage:
        for asking in (
            storage.put(PATH, UploadFile.of(file, "image/png")),
            storage.exists(PATH),
            storage.remove([PATH]),
        ):
            with pytest.raises(StorageUnavailableError):
                await asking


def test_supabase_needs_url_and_key():
    with pytest.raises(SettingsError, match="SUPABASE_SERVICE_ROLE_KEY"):
        Supabase(MediaSettings(_env_file=None, supabase_url=None, supabase_service_role_key=None))


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
