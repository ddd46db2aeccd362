import asyncio
import hashlib
import time

from tests.time_limits import SOON

BINARY = {"Content-Type": "application/octet-stream"}
MIB = 1024 * 1024


async def make_bucket(project, name="main", **limits):
    assert (await project.ask("POST", "/storage/v1/bucket", json={"id": name, "name": name} | limits))[0] == 200


async def pieces(count, pause=0.0):
    for _ in range(count):
        yield b"x" * MIB
        await asyncio.sleep(pause)


async def test_objects_lie_where_they_are_looked_for(project, database, tmp_path):
    await make_bucket(project)
    content = b"bytes" * 100_000
    status, _, _ = await project.ask("POST", "/storage/v1/object/main/user/ab/abc.bin", data=content, headers=BINARY)
    assert status == 200
    assert (tmp_path / "storage" / "main" / "user" / "ab" / "abc.bin").read_bytes() == content
    assert list((tmp_path / "storage.partial").iterdir()) == []
    etag = await database.fetchval("select metadata ->> 'eTag' from storage.objects where name = 'user/ab/abc.bin'")
    assert etag == f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


async def test_an_upload_of_unknown_length_is_stored(project):
    await make_bucket(project)
    status, _, _ = await project.ask("POST", "/storage/v1/object/main/2.mp4", data=pieces(8), headers=BINARY)
    assert status == 200
    assert len((await project.ask("GET", "/storage/v1/object/main/2.mp4"))[1]) == 8 * MIB


async def test_a_broken_upload_leaves_the_old_object_and_nothing_else(project, tmp_path):
    await make_bucket(project)
    path = "/storage/v1/object/main/1.bin"
    await project.ask("POST", path, data=b"old", headers=BINARY)
    folder = tmp_path / "storage.partial"
    upload = asyncio.create_task(
        project.ask("POST", path, data=pieces(50, 0.05), headers=BINARY | {"x-upsert": "true"})
    )
    async with asyncio.timeout(SOON):
        while not any(file.stat().st_size for file in folder.glob("*")):
            await asyncio.sleep(0.01)
        upload.cancel()
        while any(folder.glob("*")):
            await asyncio.sleep(0.01)
    assert (await project.ask("GET", path))[1] == b"old"


async def test_of_writers_at_once_one_is_stored_whole(project, database):
    await make_bucket(project)
    path = "/storage/v1/object/main/race.bin"
    contents = [bytes([number]) * 200_000 for number in range(4)]
    answers = await asyncio.gather(
        *(project.ask("POST", path, data=content, headers=BINARY | {"x-upsert": "true"}) for content in contents)
    )
    assert {status for status, _, _ in answers} == {200}
    assert len({body["Id"] for _, body, _ in answers}) == 1
    stored = (await project.ask("GET", path))[1]
    assert stored in contents
    etag = await database.fetchval("select metadata ->> 'eTag' from storage.objects where name = 'race.bin'")
    assert etag == f'"{hashlib.md5(stored, usedforsecurity=False).hexdigest()}"'


async def test_a_size_that_is_declared_is_refused_before_it_is_sent(project):
    await make_bucket(project, file_size_limit=MIB)
    began = time.monotonic()
    status, body, _ = await project.ask(
        "POST", "/storage/v1/object/main/big", data=pieces(20, 1), headers=BINARY | {"Content-Length": str(20 * MIB)}
    )
    assert (status, body["statusCode"]) == (400, "413")
    assert time.monotonic() - began < 15  # sending all would take 20


async def test_no_name_leads_out_of_its_bucket(project, tmp_path):
    await make_bucket(project)
    for name in ("..%2f..%2fx", "%2e%2e/%2e%2e/x", "a/..%2f../x", "a/%2e%2e%2f%2e%2e%2fx", "%2fx", "a%00b"):
        status, body, _ = await project.ask("POST", f"/storage/v1/object/main/{name}", data=b"out", headers=BINARY)
        assert status in {400, 404}, (name, body)
    for bucket in ("..", "%2e%2e", "..%2f..", ".", "a/b", ""):
        status, _, _ = await project.ask("POST", "/storage/v1/bucket", json={"id": bucket, "name": bucket})
        assert status == 400
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == []


async def test_a_signed_url_opens_one_object_for_a_while(project):
    await make_bucket(project)
    for name in ("one", "two"):
        await project.ask("POST", f"/storage/v1/object/main/{name}", data=name.encode(), headers=BINARY)
    _, body, _ = await project.ask("POST", "/storage/v1/object/sign/main/one", json={"expiresIn": 60})
    url = body["signedURL"]
    status, content, seen = await project.ask("GET", f"/storage/v1{url}&download=f.bin", key="none")
    assert (status, content) == (200, b"one")
    assert seen["Content-Disposition"] == "attachment; filename=f.bin; filename*=UTF-8''f.bin"
    other = url.replace("/main/one", "/main/two")
    assert (await project.ask("GET", f"/storage/v1{other}", key="none"))[1]["error"] == "InvalidSignature"
    late = project.token(url="main/one", scope="download", exp=1000000000)
    _, body, _ = await project.ask("GET", f"/storage/v1/object/sign/main/one?token={late}", key="none")
    assert body["message"] == '"exp" claim timestamp check failed'
    upload = project.token(url="main/one", scope="upload")
    _, body, _ = await project.ask("GET", f"/storage/v1/object/sign/main/one?token={upload}", key="none")
    assert body["error"] == "InvalidSignature"
