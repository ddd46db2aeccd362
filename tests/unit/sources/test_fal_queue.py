"""The addresses that FAL's queue client requests, with a real HTTP server in FAL's place."""

import pytest
from aiohttp import web
from pydantic import SecretStr

from handlers.errors import SourceGoneError
from handlers.sources.fal_queue import FalQueueClient

OTHER_PATHS = (
    *("/", "/x/y/requests/other", "/x/y/requests/r/cancel", "/x/y/requests/r/..", "/x/y/requests", "/requests/r"),
    *("/x/requests/r", "/x//requests/r", "/x/../y/requests/r/../../z", "/x/%2e%2e/requests/r", "/x/y%2Fz/requests/r"),
    *("/a/b/c/d/e/requests/r", "/x/y/requests/r/requests/other", "/x/requests/r/requests/r"),
    "/tokens?/x/y/requests/r",
)
"""Paths of FAL's queue that are not the result of the request `r`."""


class FalQueue:
    """A server at `url` that answers every request with `{"path": ...}` and records its Authorization header."""

    def __init__(self):
        self.keys = []
        self.url = ""
        self.location = ""

    async def handle(self, request):
        self.keys.append(request.headers["Authorization"])
        if self.location:
            raise web.HTTPFound(self.location)
        return web.json_response({"path": request.raw_path})


@pytest.fixture
async def fal():
    queue = FalQueue()
    app = web.Application()
    app.router.add_get("/{path:.*}", queue.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    queue.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield queue
    await runner.cleanup()


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("fal-ai/flux/dev", "/fal-ai/flux/requests/a%2F..%2Fb"),
        ("/fal-ai/flux/", "/fal-ai/flux/requests/a%2F..%2Fb"),
        ("URL/x/y/requests/a%2F..%2Fb", "/x/y/requests/a%2F..%2Fb"),
        ("URL/workflows/x/y/requests/a%2F..%2Fb?to=else#here", "/workflows/x/y/requests/a%2F..%2Fb"),
    ],
)
async def test_a_result_is_requested_by_model_and_request_id_or_by_response_url(fal, model, path):
    result = await FalQueueClient(fal.url, SecretStr("k")).result(model.replace("URL", fal.url), "a/../b")
    assert result == {"path": path}
    assert fal.keys == ["Key k"]


@pytest.mark.parametrize("request_id", ["", ".", ".."])
async def test_a_request_id_that_is_no_path_segment_is_source_gone_and_gets_no_request(fal, request_id):
    with pytest.raises(SourceGoneError):
        await FalQueueClient(fal.url, SecretStr("k")).result("fal-ai/flux", request_id)
    assert fal.keys == []


async def test_the_key_does_not_follow_a_redirect(fal):
    fal.location = f"{fal.url}/elsewhere"
    with pytest.raises(SourceGoneError):
        await FalQueueClient(fal.url, SecretStr("k")).result("fal-ai/flux", "r")
    assert fal.keys == ["Key k"]


@pytest.mark.parametrize(
    "model",
    [
        *("flux", "", "a/..", "../a", "a b/c", "http://127.0.0.1.evil.com:PORT/x", "https://127.0.0.1:PORT/x"),
        *("http://127.0.0.1:1/x", "http://evil.com/http://127.0.0.1:PORT/x", "http://127.0.0.1:PORT@evil.com/"),
        *("http://[", "ftp://127.0.0.1:PORT/x"),
        *(f"http://127.0.0.1:PORT{path}" for path in OTHER_PATHS),
    ],
)
async def test_a_model_that_is_not_on_fals_queue_is_source_gone_and_gets_no_request(fal, model):
    with pytest.raises(SourceGoneError):
        await FalQueueClient(fal.url, SecretStr("k")).result(model.replace("PORT", fal.url.rpartition(":")[2]), "r")
    assert fal.keys == []
