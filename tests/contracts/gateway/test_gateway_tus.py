import asyncio
import hashlib
import os
from base64 import b64encode

import pytest

from tests.time_limits import SOON

pytestmark = pytest.mark.usefixtures("main")
ROUTE = "/storage/v1/upload/resumable"
TUS = {"Tus-Resumable": "1.0.0"}
BODY = TUS | {"Content-Type": "application/offset+octet-stream"}
PLAIN = "text/plain;charset=UTF-8"


def metadata(bucket="main", name="one.mp4", content_type="video/mp4", **more):
    pairs = {"bucketName": bucket, "objectName": name, "contentType": content_type, "cacheControl": "max-age=3600"}
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in (pairs | more).items())


@pytest.fixture
async def main(project):
    for bucket in (
        {"id": "main"},
        {"id": "small", "file_size_limit": 10},
        {"id": "mime", "allowed_mime_types": ["a/b"]},
    ):
        assert (await project.ask("POST", "/storage/v1/bucket", json=bucket | {"name": bucket["id"]}))[0] == 200


async def create(project, length, *, key="service", more=None, **names):
    headers = TUS | {"Upload-Length": str(length), "Upload-Metadata": metadata(**names)} | (more or {})
    status, body, seen = await project.ask("POST", ROUTE, key=key, headers=headers)
    return status, body.decode() if isinstance(body, bytes) else body, seen


async def opened(project, length, **names):
    status, _, seen = await create(project, length, **names)
    assert status == 201
    assert seen["Tus-Resumable"] == "1.0.0"
    return seen["Location"].removeprefix(project.url)


async def patch(project, path, offset, data, **more):
    headers = BODY | {"Upload-Offset": str(offset)} | more
    status, body, seen = await project.ask("PATCH", path, headers=headers, data=data)
    return status, body.decode(), seen.get("Upload-Offset"), seen.get("Tus-Complete")


async def offset_of(project, path):
    status, _, seen = await project.ask("HEAD", path, headers=TUS)
    assert (status, seen["Cache-Control"], seen["Content-Type"]) == (200, "no-store", PLAIN)
    return int(seen["Upload-Offset"])


async def test_an_upload_in_pieces_becomes_an_object(project):
    content = os.urandom(1_000_000)
    path = await opened(project, len(content), metadata='{"gen":"g1"}')
    assert await offset_of(project, path) == 0
    assert await patch(project, path, 0, content[:600_000]) == (204, "", "600000", None)
    assert await patch(project, path, 600_000, content[600_000:]) == (204, "", "1000000", "1")
    assert await offset_of(project, path) == 1_000_000
    assert await patch(project, path, 1_000_000, b"") == (409, "The resource already exists", None, None)
    status, info, _ = await project.ask("GET", "/storage/v1/object/info/main/one.mp4")
    etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    seen = [status, *(info[name] for name in ("size", "content_type", "cache_control", "etag", "metadata"))]
    assert seen == [200, 1_000_000, "video/mp4", "max-age=3600", etag, {"gen": "g1"}]
    assert (await project.ask("GET", "/storage/v1/object/main/one.mp4"))[1] == content


async def test_bytes_of_a_broken_piece_are_kept(gateway, project):
    content = os.urandom(300_000)
    path = await opened(project, len(content))

    async def breaking():
        yield content[:100_000]
        await asyncio.Event().wait()

    broken = asyncio.create_task(patch(project, path, 0, breaking()))
    folder = gateway._files.partial_folder
    async with asyncio.timeout(SOON):
        while sum(file.stat().st_size for file in folder.glob("*.upload")) < 100_000:
            await asyncio.sleep(0.01)
    broken.cancel()
    assert await offset_of(project, path) == 100_000
    assert await patch(project, path, 0, content) == (409, "Upload-Offset conflict\n", None, None)
    assert (await patch(project, path, 100_000, content[100_000:]))[0] == 204
    assert (await project.ask("GET", "/storage/v1/object/main/one.mp4"))[1] == content


async def test_of_two_writers_the_second_waits_and_is_refused(project):
    path = await opened(project, 20)
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def slow():
        yield b"12345"
        begun.set()
        await go_on.wait()
        yield b"67890"

    first = asyncio.create_task(patch(project, path, 0, slow()))
    await begun.wait()
    second = asyncio.create_task(patch(project, path, 0, b"abcde"))
    await asyncio.wait({second}, timeout=0.3)
    assert not second.done()
    go_on.set()
    assert (await first)[:3] == (204, "", "10")
    assert (await second)[:2] == (409, "Upload-Offset conflict\n")


async def test_replacing_must_be_asked_for_twice(project):
    first = await opened(project, 3)
    assert (await patch(project, first, 0, b"old"))[3] == "1"
    assert (await create(project, 3))[:2] == (409, "The resource already exists")
    status, _, seen = await create(project, 3, more={"x-upsert": "true"})
    assert status == 201
    path = seen["Location"].removeprefix(project.url)
    assert (await patch(project, path, 0, b"new"))[:2] == (409, "The resource already exists")
    assert (await patch(project, path, 0, b"new", **{"x-upsert": "true"}))[3] == "1"
    assert (await project.ask("GET", "/storage/v1/object/main/one.mp4"))[1] == b"new"


async def test_the_bytes_may_come_with_the_first_request(project):
    headers = BODY | {"Upload-Length": "3", "Upload-Metadata": metadata()}
    status, _, seen = await project.ask("POST", ROUTE, headers=headers, data=b"abc")
    assert (status, seen["Upload-Offset"], seen["Tus-Complete"]) == (201, "3", "1")
    assert (await project.ask("GET", "/storage/v1/object/main/one.mp4"))[1] == b"abc"


@pytest.mark.parametrize(
    ("length", "how", "status", "text"),
    [
        (11, {"bucket": "small"}, 413, "Maximum size exceeded\n"),
        (500 * 1024**2 + 1, {}, 413, "Maximum size exceeded\n"),
        (1, {"bucket": "mime"}, 415, "mime type video/mp4 is not supported"),
        (1, {"bucket": "nope"}, 404, "Bucket not found"),
        (1, {"name": "bad[1].png"}, 400, "Invalid key: bad[1].png"),
        (1, {"more": {"Upload-Metadata": ""}}, 400, "Invalid upload-metadata\n"),
        (1, {"more": {"Upload-Metadata": "bucketName !!"}}, 400, "Invalid upload-metadata\n"),
        (1, {"more": {"Tus-Resumable": "0.2.2"}}, 400, "Invalid tus-resumable\n"),
        (0, {}, 404, "NotFound"),
        (1, {"key": "anon"}, 403, "new row violates row-level security policy"),
    ],
)
async def test_what_is_refused_is_told_in_plain_text(project, length, how, status, text):
    seen = await create(project, length, **how)
    assert seen[:2] == (status, text)
    assert seen[2]["Content-Type"] == PLAIN


async def test_a_bad_token_is_refused_as_everywhere(project):
    status, body, _ = await create(project, 1, key="opaque")
    assert (status, body["statusCode"], body["message"]) == (400, "403", "Invalid Compact JWS")


async def test_an_upload_that_is_not_there(project):
    path = await opened(project, 10)
    assert (await project.ask("DELETE", path, headers=TUS))[0] == 204
    assert (await project.ask("HEAD", path, headers=TUS))[0] == 404
    assert (await patch(project, path, 0, b"x"))[:2] == (404, "The file for this url was not found\n")
    assert (await project.ask("HEAD", f"{ROUTE}/zzz", headers=TUS))[0] == 400


async def test_pieces_that_do_not_fit(project):
    path = await opened(project, 4)
    assert (await patch(project, path, 0, b"12345"))[:2] == (413, "upload's size exceeded\n")
    wrong = {"Content-Type": "application/octet-stream"}
    assert (await patch(project, path, 0, b"1234", **wrong))[:2] == (400, "Invalid content-type\n")


async def test_what_the_server_can_is_told(project):
    status, _, seen = await project.ask("OPTIONS", ROUTE)
    assert (status, seen["Tus-Max-Size"], seen["Tus-Version"]) == (204, "524288000", "1.0.0")
    assert {"creation", "creation-with-upload", "termination"} <= set(seen["Tus-Extension"].split(","))
