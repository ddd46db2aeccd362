import asyncio
import hashlib
import os
from base64 import b64encode

import pytest

from tests.time_limits import WAIT_SECONDS

pytestmark = pytest.mark.usefixtures("main")
ROUTE = "/storage/v1/upload/resumable"
TUS_HEADERS = {"Tus-Resumable": "1.0.0"}
PATCH_HEADERS = TUS_HEADERS | {"Content-Type": "application/offset+octet-stream"}
TEXT = "text/plain;charset=UTF-8"


def metadata(bucket="main", name="one.mp4", content_type="video/mp4", **more):
    pairs = {"bucketName": bucket, "objectName": name, "contentType": content_type, "cacheControl": "3600"}
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in (pairs | more).items())


@pytest.fixture
async def main(project):
    for bucket in (
        {"id": "main"},
        {"id": "small", "file_size_limit": 10},
        {"id": "mime", "allowed_mime_types": ["a/b"]},
    ):
        assert (await project.request("POST", "/storage/v1/bucket", json=bucket | {"name": bucket["id"]}))[0] == 200


async def request_upload(project, length, *, key="service", extra=None, **names):
    headers = TUS_HEADERS | {"Upload-Length": str(length), "Upload-Metadata": metadata(**names)} | (extra or {})
    status, body, headers = await project.request("POST", ROUTE, key=key, headers=headers)
    return status, body.decode() if isinstance(body, bytes) else body, headers


async def create_upload(project, length, **names):
    status, _, headers = await request_upload(project, length, **names)
    assert status == 201
    assert headers["Tus-Resumable"] == "1.0.0"
    return headers["Location"].removeprefix(project.url)


async def patch(project, path, offset, data, **more):
    headers = PATCH_HEADERS | {"Upload-Offset": str(offset)} | more
    status, body, headers = await project.request("PATCH", path, headers=headers, data=data)
    return status, body.decode(), headers.get("Upload-Offset"), headers.get("Tus-Complete")


async def offset_of(project, path):
    status, _, headers = await project.request("HEAD", path, headers=TUS_HEADERS)
    assert (status, headers["Cache-Control"], headers["Content-Type"]) == (200, "no-store", TEXT)
    return int(headers["Upload-Offset"])


async def test_an_upload_in_two_parts_becomes_an_object(project):
    content = os.urandom(1_000_000)
    path = await create_upload(project, len(content), metadata='{"gen":"g1"}')
    assert await offset_of(project, path) == 0
    assert await patch(project, path, 0, content[:600_000]) == (204, "", "600000", None)
    assert await patch(project, path, 600_000, content[600_000:]) == (204, "", "1000000", "1")
    assert await offset_of(project, path) == 1_000_000
    assert await patch(project, path, 1_000_000, b"") == (409, "The resource already exists", None, None)
    status, info, _ = await project.request("GET", "/storage/v1/object/info/main/one.mp4")
    etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    headers = [status, *(info[name] for name in ("size", "content_type", "cache_control", "etag", "metadata"))]
    assert headers == [200, 1_000_000, "video/mp4", "max-age=3600", etag, {"gen": "g1"}]
    assert (await project.request("GET", "/storage/v1/object/main/one.mp4"))[1] == content


async def test_the_bytes_of_a_cancelled_part_are_kept(project, tmp_path):
    content = os.urandom(300_000)
    path = await create_upload(project, len(content))

    async def unfinished_body():
        yield content[:100_000]
        await asyncio.Event().wait()

    cancelled = asyncio.create_task(patch(project, path, 0, unfinished_body()))
    async with asyncio.timeout(WAIT_SECONDS):
        while sum(file.stat().st_size for file in (tmp_path / "storage.partial").glob("*.upload")) < 100_000:
            await asyncio.sleep(0.01)
    cancelled.cancel()
    assert await offset_of(project, path) == 100_000
    assert await patch(project, path, 0, content) == (409, "Upload-Offset conflict\n", None, None)
    assert (await patch(project, path, 100_000, content[100_000:]))[0] == 204
    assert (await project.request("GET", "/storage/v1/object/main/one.mp4"))[1] == content


async def test_a_concurrent_part_waits_and_is_refused_by_its_offset(project):
    path = await create_upload(project, 20)
    started = asyncio.Event()
    may_continue = asyncio.Event()

    async def slow_body():
        yield b"12345"
        started.set()
        await may_continue.wait()
        yield b"67890"

    first = asyncio.create_task(patch(project, path, 0, slow_body()))
    await started.wait()
    second = asyncio.create_task(patch(project, path, 0, b"abcde"))
    await asyncio.wait({second}, timeout=0.3)
    assert not second.done()
    may_continue.set()
    assert (await first)[:3] == (204, "", "10")
    assert (await second)[:2] == (409, "Upload-Offset conflict\n")


async def test_replacing_an_object_needs_upsert_in_both_requests(project):
    first = await create_upload(project, 3)
    assert (await patch(project, first, 0, b"old"))[3] == "1"
    assert (await request_upload(project, 3))[:2] == (409, "The resource already exists")
    status, _, headers = await request_upload(project, 3, extra={"x-upsert": "true"})
    assert status == 201
    path = headers["Location"].removeprefix(project.url)
    assert (await patch(project, path, 0, b"new"))[:2] == (409, "The resource already exists")
    assert (await patch(project, path, 0, b"new", **{"x-upsert": "true"}))[3] == "1"
    assert (await project.request("GET", "/storage/v1/object/main/one.mp4"))[1] == b"new"


async def test_the_body_can_be_sent_with_the_creation_request(project):
    headers = PATCH_HEADERS | {"Upload-Length": "3", "Upload-Metadata": metadata()}
    status, _, headers = await project.request("POST", ROUTE, headers=headers, data=b"abc")
    assert (status, headers["Upload-Offset"], headers["Tus-Complete"]) == (201, "3", "1")
    assert (await project.request("GET", "/storage/v1/object/main/one.mp4"))[1] == b"abc"


async def test_a_key_of_six_times_200_characters_is_stored(project):
    key = "/".join(letter * 200 for letter in "abcdef")
    path = await create_upload(project, 1, name=key)
    assert (await patch(project, path, 0, b"x"))[3] == "1"
    assert (await project.request("GET", f"/storage/v1/object/main/{key}"))[:2] == (200, b"x")


async def test_the_length_can_be_declared_with_a_later_part(project):
    headers = TUS_HEADERS | {"Upload-Defer-Length": "1", "Upload-Metadata": metadata(bucket="small")}
    status, _, headers = await project.request("POST", ROUTE, headers=headers)
    path = headers["Location"].removeprefix(project.url)
    assert (status, await patch(project, path, 0, b"one")) == (201, (204, "", "3", None))
    headers = (await project.request("HEAD", path, headers=TUS_HEADERS))[2]
    assert (headers["Upload-Defer-Length"], headers["Upload-Offset"], "Upload-Length" in headers) == ("1", "3", False)
    assert (await patch(project, path, 3, b"", **{"Upload-Length": "2"}))[0] == 400
    assert (await patch(project, path, 3, b"", **{"Upload-Length": "11"}))[:2] == (413, "Maximum size exceeded\n")
    assert await patch(project, path, 3, b"two", **{"Upload-Length": "6"}) == (204, "", "6", "1")
    assert (await project.request("GET", "/storage/v1/object/small/one.mp4"))[1] == b"onetwo"


async def test_an_upload_of_no_bytes_is_an_object_at_once(project):
    status, _, headers = await request_upload(project, 0)
    assert (status, headers["Tus-Complete"], "Upload-Offset" in headers) == (201, "1", False)
    status, info, _ = await project.request("GET", "/storage/v1/object/info/main/one.mp4")
    empty = hashlib.md5(b"", usedforsecurity=False).hexdigest()
    assert (status, info["size"], info["etag"]) == (200, 0, f'"{empty}"')
    assert await offset_of(project, headers["Location"].removeprefix(project.url)) == 0


@pytest.mark.parametrize(
    ("seconds", "header"),
    [
        ("31536000", "max-age=31536000"),
        ("0", "max-age=0"),
        ("max-age=60", "no-cache"),
        ("60s", "no-cache"),
        ("", "no-cache"),
    ],
)
async def test_cache_control_is_taken_in_whole_seconds_only(project, seconds, header):
    path = await create_upload(project, 1, cacheControl=seconds)
    assert (await patch(project, path, 0, b"x"))[0] == 204
    assert (await project.request("GET", "/storage/v1/object/main/one.mp4"))[2]["Cache-Control"] == header


@pytest.mark.parametrize(
    ("length", "how", "status", "text"),
    [
        (11, {"bucket": "small"}, 413, "Maximum size exceeded\n"),
        (500 * 1024**2 + 1, {}, 413, "Maximum size exceeded\n"),
        (1, {"bucket": "mime"}, 415, "mime type video/mp4 is not supported"),
        (1, {"bucket": "nope"}, 404, "Bucket not found"),
        (1, {"name": "bad[1].png"}, 400, "Invalid key: bad[1].png"),
        (1, {"extra": {"Upload-Metadata": ""}}, 400, "Invalid upload-metadata\n"),
        (1, {"extra": {"Upload-Metadata": "bucketName !!"}}, 400, "Invalid upload-metadata\n"),
        (1, {"extra": {"Tus-Resumable": "0.2.2"}}, 400, "Invalid tus-resumable\n"),
        (1, {"key": "anon"}, 403, "new row violates row-level security policy"),
    ],
)
async def test_a_refused_creation_is_answered_in_plain_text(project, length, how, status, text):
    headers = await request_upload(project, length, **how)
    assert headers[:2] == (status, text)
    assert headers[2]["Content-Type"] == TEXT


async def test_an_invalid_token_is_refused_as_json(project):
    status, body, _ = await request_upload(project, 1, key="opaque")
    assert (status, body["statusCode"], body["message"]) == (400, "403", "Invalid Compact JWS")


async def test_a_deleted_or_unknown_upload_is_not_found(project):
    path = await create_upload(project, 10)
    assert (await project.request("DELETE", path, headers=TUS_HEADERS))[0] == 204
    assert (await project.request("HEAD", path, headers=TUS_HEADERS))[0] == 404
    assert (await patch(project, path, 0, b"x"))[:2] == (404, "The file for this url was not found\n")
    assert (await project.request("HEAD", f"{ROUTE}/zzz", headers=TUS_HEADERS))[0] == 400


async def test_a_part_that_is_too_long_or_of_the_wrong_type_is_refused(project):
    path = await create_upload(project, 4)
    assert (await patch(project, path, 0, b"12345"))[:2] == (413, "upload's size exceeded\n")
    wrong = {"Content-Type": "application/octet-stream"}
    assert (await patch(project, path, 0, b"1234", **wrong))[:2] == (400, "Invalid content-type\n")


async def test_options_lists_version_size_limit_and_extensions(project):
    status, _, headers = await project.request("OPTIONS", ROUTE)
    assert (status, headers["Tus-Max-Size"], headers["Tus-Version"]) == (204, "524288000", "1.0.0")
    extensions = headers["Tus-Extension"]
    assert extensions == "creation,creation-with-upload,creation-defer-length,termination,expiration"
