"""Unusual responses of Storage, from a scripted HTTP server."""

import asyncio
import base64
import hashlib
import json

import pytest
import stamina
from aiohttp import web
from pydantic import SecretStr

from handlers.database.client import Supabase
from handlers.errors import StorageRejectedError, StorageUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings
from handlers.storage.upload_file import UploadFile
from tests.time_limits import WAIT_SECONDS

HTML = "<html>Sign in to the proxy</html>"
CONTENT = b"content"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
INFO = {"size": len(CONTENT), "etag": f'"{MD5}"', "content_type": "image/png", "metadata": {}}
LARGE = 7 * 1024 * 1024
TUS_HEADERS = {"Tus-Resumable": "1.0.0"}


def storage_error(status, error="Error", message="", http=400, **headers):
    """An error as Storage sends it: the actual status is in the body."""
    body = {"statusCode": str(status), "error": error, "message": message}
    return lambda: web.json_response(body, status=http, headers=headers)


def tus_response(status, text="", **headers):
    """A response of the TUS_HEADERS server."""
    return lambda: web.Response(
        status=status, text=text, headers=TUS_HEADERS | {k.replace("_", "-"): v for k, v in headers.items()}
    )


def info(**differing):
    return lambda: web.json_response(INFO | differing)


STORED_RESPONSES = [lambda: web.json_response({"Key": "b/a", "Id": "1"}), info()]


class ScriptedServer:
    """Sends `responses` in turn, then the last one again; database functions do not exist."""

    def __init__(self):
        self.responses = []
        self.requests = []
        self.url = ""

    async def handle(self, request):
        body = await request.read()
        if request.path.startswith("/rest"):
            return web.json_response({"code": "PGRST202", "message": "no function"}, status=404)
        self.requests.append((request.method, request.path.removeprefix("/storage/v1"), request.headers, len(body)))
        return (self.responses.pop(0) if len(self.responses) > 1 else self.responses[0])()


@pytest.fixture
async def server():
    scripted = ScriptedServer()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{rest:.*}", scripted.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield scripted
    await runner.cleanup()


class RecordingObserver(Observer):
    def __init__(self):
        self.requests = []

    def storage(self, operation, outcome):
        self.requests.append((operation, outcome))


@pytest.fixture(autouse=True)
def without_retry_pauses():
    with stamina.set_testing(True, attempts=2):  # after the first call, which is not made by stamina
        yield


@pytest.fixture
def observer():
    return RecordingObserver()


@pytest.fixture
async def storage(server, observer):
    key = SecretStr("a.b.c")
    settings = MediaSettings(_env_file=None, supabase_url=server.url, supabase_service_role_key=key)
    async with Supabase(settings, observer) as scripted:
        yield scripted


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(LARGE))
    return path


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (storage_error(413, "Payload too large"), StorageRejectedError),
        (storage_error(415, "invalid_mime_type"), StorageRejectedError),
        (storage_error(400, "InvalidKey"), StorageRejectedError),
        (storage_error(403, "Unauthorized"), StorageRejectedError),
        (storage_error(404, "Bucket not response"), StorageRejectedError),
        (storage_error(423, "ResourceLocked"), StorageUnavailableError),
        (storage_error(503, "Lock time-out"), StorageUnavailableError),
        (storage_error(500, "Internal", http=500), StorageUnavailableError),
        (storage_error(544, "DatabaseTimeout", http=544), StorageUnavailableError),
        (storage_error(429, "Too many", http=429), StorageUnavailableError),
        (lambda: web.json_response({"message": "Invalid API key"}, status=401), StorageRejectedError),
        (lambda: web.json_response({"message": "upstream"}, status=502), StorageUnavailableError),
        (lambda: web.Response(text=HTML, status=413, content_type="text/html"), StorageRejectedError),
        (lambda: web.Response(text=HTML, status=403, content_type="text/html"), StorageUnavailableError),
        (lambda: web.Response(text=HTML, status=200, content_type="text/html"), StorageUnavailableError),
        (lambda: web.Response(text="[]", status=200, content_type="application/json"), StorageUnavailableError),
        (lambda: web.Response(status=400), StorageUnavailableError),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), StorageUnavailableError),
    ],
)
async def test_the_status_in_the_body_decides_whether_to_retry(server, storage, file, answer, error):
    server.responses = [answer]
    with pytest.raises(error) as refused:
        await storage.put("a", UploadFile.from_path(file, "image/png"))
    assert refused.value.retryable is (error is StorageUnavailableError)
    assert len(server.requests) == (3 if refused.value.retryable else 1)
    assert HTML not in str(refused.value)


async def test_a_temporary_error_is_retried_at_once(server, storage, observer, file):
    server.responses = [storage_error(503), *STORED_RESPONSES]
    assert await storage.put("a", UploadFile.from_path(file, "image/png"))
    assert observer.requests == [("upload", "unavailable"), ("upload", "ok"), ("info", "ok")]


async def test_a_long_retry_after_ends_the_attempt_with_that_delay(server, storage, file):
    server.responses = [storage_error(429, http=429, **{"Retry-After": "77"})]
    with pytest.raises(StorageUnavailableError) as refused:
        await storage.put("a", UploadFile.from_path(file, "image/png"))
    assert (len(server.requests), refused.value.retry_after) == (1, 77)


async def test_an_upload_has_length_type_and_cache_control(server, storage, file):
    server.responses = list(STORED_RESPONSES)
    await storage.put("u/ab/a.png", UploadFile.from_path(file, "image/png"))
    method, path, headers, received = server.requests[0]
    assert (method, path, received) == ("POST", "/object/generations/u/ab/a.png", len(CONTENT))
    names = ("Content-Length", "Content-Type", "Cache-Control", "x-upsert", "Authorization", "apikey")
    assert [headers[name] for name in names] == [
        *(str(len(CONTENT)), "image/png", "max-age=31536000, immutable", "false", "Bearer a.b.c", "a.b.c")
    ]
    assert "Transfer-Encoding" not in headers


@pytest.mark.parametrize("response", [info(size=3), storage_error(404, "not_found", "Object not response")])
async def test_an_object_that_differs_after_two_uploads_is_an_error(server, storage, file, response):
    created = STORED_RESPONSES[0]
    server.responses = [created, response, created, response]
    with pytest.raises((StorageRejectedError, StorageUnavailableError), match=r"other bytes|does not have it"):
        await storage.put("a", UploadFile.from_path(file, "image/png"))
    assert [headers.get("x-upsert") for _, _, headers, _ in server.requests] == ["false", None, "true", None]


async def test_a_damaged_object_is_replaced(server, storage, file):
    damaged = lambda: web.Response(body=b"conTent")  # noqa: E731 - an answer
    server.responses = [storage_error(409, "Duplicate"), info(etag='"00"'), damaged, *STORED_RESPONSES]
    assert await storage.put("a", UploadFile.from_path(file, "image/png"))
    assert [seen[0] for seen in server.requests] == ["POST", "GET", "GET", "POST", "GET"]


@pytest.mark.parametrize("spelled", ["http://", ""])
async def test_the_proxy_of_the_environment_is_used(server, file, monkeypatch, spelled):
    monkeypatch.setenv("http_proxy", spelled + server.url.removeprefix("http://"))
    monkeypatch.setenv("no_proxy", "")
    key = SecretStr("a.b.c")
    settings = MediaSettings(_env_file=None, supabase_url="http://supabase.invalid", supabase_service_role_key=key)
    server.responses = list(STORED_RESPONSES)
    async with Supabase(settings) as storage:
        assert await storage.put("a", UploadFile.from_path(file, "image/png"))
    assert server.requests[0][2]["Host"] == "supabase.invalid"


UPLOAD_CREATED = tus_response(201, Location="http://elsewhere.example/storage/v1/upload/resumable/aWQ")
LARGE_MD5 = hashlib.md5(bytes(LARGE), usedforsecurity=False).hexdigest()
LARGE_INFO = info(size=LARGE, etag=f'"{LARGE_MD5}"', content_type="video/mp4")
UPLOAD_AT_ZERO = tus_response(200, Upload_Offset="0", Upload_Length=str(LARGE))


async def test_the_location_of_a_tus_upload_cannot_redirect_the_key(server, storage, large):
    arrived = tus_response(200, Upload_Offset=str(LARGE), Upload_Length=str(LARGE))
    server.responses = [UPLOAD_CREATED, arrived, LARGE_INFO]
    assert await storage.put("a", UploadFile.from_path(large, "video/mp4"))
    assert server.requests[1][:2] == ("HEAD", "/upload/resumable/aWQ")


async def test_tus_chunks_are_six_mebibytes_and_a_locked_upload_is_retried(server, storage, observer, large):
    server.responses = [
        *(
            UPLOAD_CREATED,
            UPLOAD_AT_ZERO,
            tus_response(423, "locked"),
            UPLOAD_AT_ZERO,
            tus_response(204, Upload_Offset=str(6 * 1024 * 1024)),
        ),
        *(tus_response(204, Upload_Offset=str(LARGE)), LARGE_INFO),
    ]
    assert await storage.put("a", UploadFile.from_path(large, "video/mp4"))
    assert [seen[3] for seen in server.requests if seen[0] == "PATCH"] == [
        6 * 1024 * 1024,
        6 * 1024 * 1024,
        1024 * 1024,
    ]
    assert observer.requests.count(("upload_part", "ok")) == 2
    metadata = dict(pair.split(" ") for pair in server.requests[0][2]["Upload-Metadata"].split(","))
    assert set(metadata) == {"bucketName", "objectName", "contentType", "cacheControl", "metadata"}
    assert base64.b64decode(metadata["cacheControl"]) == b"31536000"


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([tus_response(413, "Maximum size exceeded\n")], StorageRejectedError),
        ([tus_response(415, "mime type x is not supported")], StorageRejectedError),
        ([tus_response(404, "Bucket not response")], StorageRejectedError),
        ([storage_error(403, "Unauthorized", "Invalid Compact JWS")], StorageRejectedError),
        ([UPLOAD_CREATED, UPLOAD_AT_ZERO, tus_response(413, "upload's size exceeded\n")], StorageRejectedError),
        ([tus_response(429, "slow down", Retry_After="99")], StorageUnavailableError),
    ],
)
async def test_plain_text_errors_of_tus_are_translated(server, storage, large, answers, error):
    server.responses = list(answers)
    with pytest.raises(error):
        await storage.put("a", UploadFile.from_path(large, "video/mp4"))
    assert len(server.requests) == len(answers)


async def test_an_upload_finished_by_another_worker_counts_as_stored(server, storage, large):
    server.responses = [
        UPLOAD_CREATED,
        UPLOAD_AT_ZERO,
        tus_response(409, "The resource already exists"),
        LARGE_INFO,
        LARGE_INFO,
    ]
    assert await storage.put("a", UploadFile.from_path(large, "video/mp4")) is False


@pytest.mark.parametrize("size", [1_000, 1_000_000, 6_000_000])
async def test_a_connection_is_not_reused_after_a_refused_upload(tmp_path, size):
    """After an early refusal a server may read the rest of the body as the next request."""
    received = []

    async def refuse(reader, writer):
        received.append(await reader.readuntil(b"\r\n\r\n"))
        body = json.dumps({"statusCode": "413", "error": "Payload too large", "message": ""}).encode()
        writer.write(
            b"HTTP/1.1 400 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    file = tmp_path / "file"
    file.write_bytes(bytes(size))
    key = SecretStr("a.b.c")
    settings = MediaSettings(
        _env_file=None, supabase_url=url, supabase_service_role_key=key, storage_timeout_seconds=20
    )
    async with Supabase(settings) as storage, asyncio.timeout(WAIT_SECONDS):
        for _ in range(3):
            with pytest.raises(StorageRejectedError, match="413"):
                await storage.put("a", UploadFile.from_path(file, "image/png"))
    assert len(received) == 3
    server.close()
    await server.wait_closed()
