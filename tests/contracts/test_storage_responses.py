"""What answers mean that a healthy Storage does not give: played at the wire."""

import asyncio
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
from tests.time_limits import SOON

HTML = "<html>Sign in to the proxy</html>"
CONTENT = b"content"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
INFO = {"size": len(CONTENT), "etag": f'"{MD5}"', "content_type": "image/png", "metadata": {}}
LARGE = 7 * 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}


def hidden(status, error="Error", message="", http=400, **headers):
    """An error as Storage sends it, the true status in the body."""
    body = {"statusCode": str(status), "error": error, "message": message}
    return lambda: web.json_response(body, status=http, headers=headers)


def plain(status, text="", **headers):
    """An answer of the TUS server."""
    return lambda: web.Response(
        status=status, text=text, headers=TUS | {k.replace("_", "-"): v for k, v in headers.items()}
    )


def info(**differing):
    return lambda: web.json_response(INFO | differing)


STORED = [lambda: web.json_response({"Key": "b/a", "Id": "1"}), info()]


class Played:
    """Gives the answers it was told, in turn, the last one for ever; database functions are not there."""

    def __init__(self):
        self.answers = []
        self.seen = []
        self.url = ""

    async def answer(self, request):
        body = await request.read()
        if request.path.startswith("/rest"):
            return web.json_response({"code": "PGRST202", "message": "no function"}, status=404)
        self.seen.append((request.method, request.path.removeprefix("/storage/v1"), request.headers, len(body)))
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])()


@pytest.fixture
async def played():
    made = Played()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{rest:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


class Noted(Observer):
    def __init__(self):
        self.requests = []

    def storage(self, operation, outcome):
        self.requests.append((operation, outcome))


@pytest.fixture(autouse=True)
def quickly():
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture
def noted():
    return Noted()


@pytest.fixture
async def storage(played, noted):
    key = SecretStr("a.b.c")
    settings = MediaSettings(_env_file=None, supabase_url=played.url, supabase_service_role_key=key)
    async with Supabase(settings, noted) as made:
        yield made


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
        (hidden(413, "Payload too large"), StorageRejectedError),
        (hidden(415, "invalid_mime_type"), StorageRejectedError),
        (hidden(400, "InvalidKey"), StorageRejectedError),
        (hidden(403, "Unauthorized"), StorageRejectedError),
        (hidden(404, "Bucket not found"), StorageRejectedError),
        (hidden(423, "ResourceLocked"), StorageUnavailableError),
        (hidden(503, "Lock time-out"), StorageUnavailableError),
        (hidden(500, "Internal", http=500), StorageUnavailableError),
        (hidden(544, "DatabaseTimeout", http=544), StorageUnavailableError),
        (hidden(429, "Too many", http=429), StorageUnavailableError),
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
async def test_the_true_status_decides(played, storage, file, answer, error):
    played.answers = [answer]
    with pytest.raises(error) as refused:
        await storage.put("a", UploadFile.of(file, "image/png"))
    assert refused.value.retryable is (error is StorageUnavailableError)
    assert len(played.seen) == (3 if refused.value.retryable else 1)
    assert HTML not in str(refused.value)


async def test_a_moment_of_weakness_is_waited_out(played, storage, noted, file):
    played.answers = [hidden(503), *STORED]
    assert await storage.put("a", UploadFile.of(file, "image/png"))
    assert noted.requests == [("upload", "unavailable"), ("upload", "ok"), ("info", "ok")]


async def test_a_long_wait_is_not_waited_out_but_told(played, storage, file):
    played.answers = [hidden(429, http=429, **{"Retry-After": "77"})]
    with pytest.raises(StorageUnavailableError) as refused:
        await storage.put("a", UploadFile.of(file, "image/png"))
    assert (len(played.seen), refused.value.retry_after) == (1, 77)


async def test_what_is_sent_is_measured_typed_and_immutable(played, storage, file):
    played.answers = list(STORED)
    await storage.put("u/ab/a.png", UploadFile.of(file, "image/png"))
    method, path, headers, received = played.seen[0]
    assert (method, path, received) == ("POST", "/object/generations/u/ab/a.png", len(CONTENT))
    names = ("Content-Length", "Content-Type", "Cache-Control", "x-upsert", "Authorization", "apikey")
    assert [headers[name] for name in names] == [
        *(str(len(CONTENT)), "image/png", "max-age=31536000, immutable", "false", "Bearer a.b.c", "a.b.c")
    ]
    assert "Transfer-Encoding" not in headers


@pytest.mark.parametrize("found", [info(size=3), hidden(404, "not_found", "Object not found")])
async def test_storage_that_keeps_something_else_is_told_after_one_more_try(played, storage, file, found):
    taken = STORED[0]
    played.answers = [taken, found, taken, found]
    with pytest.raises((StorageRejectedError, StorageUnavailableError), match=r"other bytes|does not have it"):
        await storage.put("a", UploadFile.of(file, "image/png"))
    assert [headers.get("x-upsert") for _, _, headers, _ in played.seen] == ["false", None, "true", None]


async def test_a_damaged_object_is_not_taken_for_a_duplicate(played, storage, file):
    damaged = lambda: web.Response(body=b"conTent")  # noqa: E731 - an answer
    played.answers = [hidden(409, "Duplicate"), info(etag='"00"'), damaged, *STORED]
    assert await storage.put("a", UploadFile.of(file, "image/png"))
    assert [seen[0] for seen in played.seen] == ["POST", "GET", "GET", "POST", "GET"]


@pytest.mark.parametrize("spelled", ["http://", ""])
async def test_the_environments_proxy_is_used(played, file, monkeypatch, spelled):
    monkeypatch.setenv("http_proxy", spelled + played.url.removeprefix("http://"))
    monkeypatch.setenv("no_proxy", "")
    key = SecretStr("a.b.c")
    settings = MediaSettings(_env_file=None, supabase_url="http://supabase.invalid", supabase_service_role_key=key)
    played.answers = list(STORED)
    async with Supabase(settings) as storage:
        assert await storage.put("a", UploadFile.of(file, "image/png"))
    assert played.seen[0][2]["Host"] == "supabase.invalid"


OPENED = plain(201, Location="http://elsewhere.example/storage/v1/upload/resumable/aWQ")
LARGE_MD5 = hashlib.md5(bytes(LARGE), usedforsecurity=False).hexdigest()
LARGE_INFO = info(size=LARGE, etag=f'"{LARGE_MD5}"', content_type="video/mp4")
BEGUN = plain(200, Upload_Offset="0", Upload_Length=str(LARGE))


async def test_our_key_goes_to_our_project_wherever_an_upload_is_said_to_lie(played, storage, large):
    arrived = plain(200, Upload_Offset=str(LARGE), Upload_Length=str(LARGE))
    played.answers = [OPENED, arrived, LARGE_INFO]
    assert await storage.put("a", UploadFile.of(large, "video/mp4"))
    assert played.seen[1][:2] == ("HEAD", "/upload/resumable/aWQ")


async def test_a_chunk_is_six_mebibytes_and_a_lock_is_waited_for(played, storage, noted, large):
    played.answers = [
        *(OPENED, BEGUN, plain(423, "locked"), BEGUN, plain(204, Upload_Offset=str(6 * 1024 * 1024))),
        *(plain(204, Upload_Offset=str(LARGE)), LARGE_INFO),
    ]
    assert await storage.put("a", UploadFile.of(large, "video/mp4"))
    assert [seen[3] for seen in played.seen if seen[0] == "PATCH"] == [6 * 1024 * 1024, 6 * 1024 * 1024, 1024 * 1024]
    assert noted.requests.count(("upload_part", "ok")) == 2
    metadata = dict(pair.split(" ") for pair in played.seen[0][2]["Upload-Metadata"].split(","))
    assert set(metadata) == {"bucketName", "objectName", "contentType", "cacheControl", "metadata"}


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([plain(413, "Maximum size exceeded\n")], StorageRejectedError),
        ([plain(415, "mime type x is not supported")], StorageRejectedError),
        ([plain(404, "Bucket not found")], StorageRejectedError),
        ([hidden(403, "Unauthorized", "Invalid Compact JWS")], StorageRejectedError),
        ([OPENED, BEGUN, plain(413, "upload's size exceeded\n")], StorageRejectedError),
        ([plain(429, "slow down", Retry_After="99")], StorageUnavailableError),
    ],
)
async def test_the_tus_servers_plain_words_are_understood(played, storage, large, answers, error):
    played.answers = list(answers)
    with pytest.raises(error):
        await storage.put("a", UploadFile.of(large, "video/mp4"))
    assert len(played.seen) == len(answers)


async def test_a_finished_upload_of_somebody_else_is_as_good(played, storage, large):
    played.answers = [OPENED, BEGUN, plain(409, "The resource already exists"), LARGE_INFO, LARGE_INFO]
    assert await storage.put("a", UploadFile.of(large, "video/mp4")) is False


@pytest.mark.parametrize("size", [1_000, 1_000_000, 6_000_000])
async def test_a_connection_on_which_an_upload_was_refused_is_not_used_again(tmp_path, size):
    """After an early refusal the rest of the body may be taken for the next request, which then never ends."""
    served = []

    async def refuse(reader, writer):
        served.append(await reader.readuntil(b"\r\n\r\n"))
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
    async with Supabase(settings) as storage, asyncio.timeout(SOON):
        for _ in range(3):
            with pytest.raises(StorageRejectedError, match="413"):
                await storage.put("a", UploadFile.of(file, "image/png"))
    assert len(served) == 3
    server.close()
    await server.wait_closed()
