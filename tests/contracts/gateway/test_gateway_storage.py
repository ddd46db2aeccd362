import asyncio
import hashlib

import pytest

from tests.time_limits import WAIT_SECONDS

BINARY = {"Content-Type": "application/octet-stream"}
MIB = 1024 * 1024


async def make_bucket(project, name="main", **limits):
    assert (await project.request("POST", "/storage/v1/bucket", json={"id": name, "name": name} | limits))[0] == 200


async def pieces(count, pause=0.0, sent=None):
    """Yield `count` MiB, with pauses of this many seconds; append the size of each piece to `sent`."""
    for _ in range(count):
        yield b"x" * MIB
        if sent is not None:
            sent.append(MIB)
        await asyncio.sleep(pause)


async def test_an_object_is_a_file_in_the_buckets_folder(project, database, tmp_path):
    await make_bucket(project)
    content = b"bytes" * 100_000
    status, _, _ = await project.request(
        "POST", "/storage/v1/object/main/user/ab/abc.bin", data=content, headers=BINARY
    )
    assert status == 200
    assert (tmp_path / "storage" / "main" / "user" / "ab" / "abc.bin").read_bytes() == content
    assert list((tmp_path / "storage.partial").iterdir()) == []
    etag = await database.fetchval("select metadata ->> 'eTag' from storage.objects where name = 'user/ab/abc.bin'")
    assert etag == f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


async def test_an_upload_of_unknown_length_is_stored(project):
    await make_bucket(project)
    status, _, _ = await project.request("POST", "/storage/v1/object/main/2.mp4", data=pieces(8), headers=BINARY)
    assert status == 200
    assert len((await project.request("GET", "/storage/v1/object/main/2.mp4"))[1]) == 8 * MIB


async def test_a_cancelled_upload_keeps_the_old_object_and_leaves_no_file(project, tmp_path):
    await make_bucket(project)
    path = "/storage/v1/object/main/1.bin"
    await project.request("POST", path, data=b"old", headers=BINARY)
    folder = tmp_path / "storage.partial"
    upload = asyncio.create_task(
        project.request("POST", path, data=pieces(50, 0.05), headers=BINARY | {"x-upsert": "true"})
    )
    async with asyncio.timeout(WAIT_SECONDS):
        while not any(file.stat().st_size for file in folder.glob("*")):
            await asyncio.sleep(0.01)
        upload.cancel()
        while any(folder.glob("*")):
            await asyncio.sleep(0.01)
    assert (await project.request("GET", path))[1] == b"old"


@pytest.mark.parametrize("upsert", ["true", "false"])
async def test_concurrent_uploads_all_succeed_and_store_one_complete_object(project, database, upsert):
    await make_bucket(project)
    path = "/storage/v1/object/main/race.bin"
    contents = [bytes([number]) * 200_000 for number in range(4)]
    responses = await asyncio.gather(
        *(project.request("POST", path, data=content, headers=BINARY | {"x-upsert": upsert}) for content in contents)
    )
    assert {status for status, _, _ in responses} == {200}
    assert len({body["Id"] for _, body, _ in responses}) == 1
    stored = (await project.request("GET", path))[1]
    assert stored in contents
    etag = await database.fetchval("select metadata ->> 'eTag' from storage.objects where name = 'race.bin'")
    assert etag == f'"{hashlib.md5(stored, usedforsecurity=False).hexdigest()}"'
    later = await project.request("POST", path, data=b"later", headers=BINARY)
    assert (later[0], later[1]["error"]) == (400, "Duplicate")


async def test_a_key_of_six_times_200_characters_is_stored(project):
    await make_bucket(project)
    key = "/".join(letter * 200 for letter in "abcdef")
    assert (await project.request("POST", f"/storage/v1/object/main/{key}", data=b"x", headers=BINARY))[0] == 200
    assert (await project.request("GET", f"/storage/v1/object/main/{key}"))[:2] == (200, b"x")


async def test_a_declared_size_over_the_limit_is_refused_before_the_body(project):
    await make_bucket(project, file_size_limit=MIB)
    sent = []
    body, headers = pieces(1000, 0.01, sent), BINARY | {"Content-Length": str(1000 * MIB)}
    status, response, _ = await project.request("POST", "/storage/v1/object/main/big", data=body, headers=headers)
    assert (status, response["statusCode"]) == (400, "413")
    assert len(sent) < 1000


async def test_no_object_or_bucket_name_leaves_its_folder(project, tmp_path):
    await make_bucket(project)
    for name in ("..%2f..%2fx", "%2e%2e/%2e%2e/x", "a/..%2f../x", "a/%2e%2e%2f%2e%2e%2fx", "%2fx", "a%00b"):
        status, body, _ = await project.request("POST", f"/storage/v1/object/main/{name}", data=b"out", headers=BINARY)
        assert status in {400, 404}, (name, body)
    for bucket in ("..", "%2e%2e", "..%2f..", ".", "a/b", ""):
        status, _, _ = await project.request("POST", "/storage/v1/bucket", json={"id": bucket, "name": bucket})
        assert status == 400
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(("order", "step"), [("asc", 1), ("desc", -1)])
async def test_a_list_is_sorted_by_bytes_with_a_folder_at_its_slash(project, order, step):
    await make_bucket(project)
    for name in ("a/b/one", "a/b.png", "a/b0", "a/Z", "a/default.mp4", "a/_"):
        await project.request("POST", f"/storage/v1/object/main/{name}", data=b"x", headers=BINARY)
    sort = {"prefix": "a", "sortBy": {"column": "name", "order": order}}
    _, found, _ = await project.request("POST", "/storage/v1/object/list/main", json=sort)
    assert [entry["name"] for entry in found][::step] == ["Z", "_", "b.png", "b", "b0", "default.mp4"]


async def test_a_signed_url_gives_access_to_one_object_until_it_expires(project):
    await make_bucket(project)
    for name in ("one", "two"):
        await project.request("POST", f"/storage/v1/object/main/{name}", data=name.encode(), headers=BINARY)
    _, body, _ = await project.request("POST", "/storage/v1/object/sign/main/one", json={"expiresIn": 60})
    url = body["signedURL"]
    status, content, headers = await project.request("GET", f"/storage/v1{url}&download=f.bin", key="none")
    assert (status, content) == (200, b"one")
    assert headers["Content-Disposition"] == "attachment; filename=f.bin; filename*=UTF-8''f.bin"
    other = url.replace("/main/one", "/main/two")
    assert (await project.request("GET", f"/storage/v1{other}", key="none"))[1]["error"] == "InvalidSignature"
    expired = project.token(url="main/one", scope="download", exp=1000000000)
    _, body, _ = await project.request("GET", f"/storage/v1/object/sign/main/one?token={expired}", key="none")
    assert body["message"] == '"exp" claim timestamp check failed'
    upload = project.token(url="main/one", scope="upload")
    _, body, _ = await project.request("GET", f"/storage/v1/object/sign/main/one?token={upload}", key="none")
    assert body["error"] == "InvalidSignature"
