"""Requests for signed links, with a real HTTP server in FAL's place."""

import pytest
from aiohttp import web

from handlers.download.fal_files import MAX_ANSWER_BYTES, FalFiles, is_fal_url
from handlers.errors import SourceGoneError, SourceUnavailableError
from handlers.settings import MediaSettings

FILE = "https://v3b.fal.media/files/b/0a1b/a%2Bb.png"
KEY = "key-id:topsecret"


class FalApi:
    """A server at `url` that answers every request with `response` and records it."""

    def __init__(self):
        self.response = {"json": {"signed_url": f"{FILE}?identity=x%2By"}}
        self.requests = []

    async def handle(self, request):
        self.requests.append((request.method, request.path, dict(request.query), await request.json()))
        self.key = request.headers["Authorization"]
        if "json" in self.response:
            return web.json_response(self.response["json"])
        return web.Response(**self.response)


@pytest.fixture
async def api():
    fal = FalApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fal.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fal.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fal
    await runner.cleanup()


def files(api, **settings):
    return FalFiles(MediaSettings(_env_file=None, fal_api_url=f"{api.url}/v1", **{"fal_key": KEY, **settings}))


async def test_a_link_is_requested_as_fal_documents(api):
    assert await files(api).signed_url(f"{FILE}?identity=expired") == f"{FILE}?identity=x%2By"
    assert api.requests == [("POST", "/v1/storage/files/sign", {"url": FILE}, {"expiration_seconds": 3600})]
    assert api.key == f"Key {KEY}"


@pytest.mark.parametrize(
    "url",
    [
        "https://fal.media.evil.test/a",
        "https://evilfal.media/a",
        "http://v3.fal.media/a",
        "https://v3.fal.media:444/a",
        "https://u@v3.fal.media/a",
        "https://storage.googleapis.com/falserverless/a",
        "https://fal.ai/files/a",
        "https://h.test/https://v3.fal.media/a",
        "data:,x",
    ],
)
async def test_a_url_that_is_not_on_fals_cdn_is_not_signed(api, url):
    assert await files(api).signed_url(url) is None
    assert api.requests == []


async def test_without_a_key_nothing_is_requested(api):
    assert await files(api, fal_key=None).signed_url(FILE) is None
    assert api.requests == []


@pytest.mark.parametrize("status", [400, 404, 410, 422, 302])
async def test_a_file_that_fal_does_not_know_has_no_link(api, status):
    api.response = {"status": status, "headers": {"Location": f"{api.url}/elsewhere"}}
    assert await files(api).signed_url(FILE) is None
    assert len(api.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_fal_does_not_accept_is_named_with_the_remedy(api, status):
    api.response = {"status": status}
    with pytest.raises(SourceGoneError, match=r"FAL_KEY.*assets:read") as failed:
        await files(api).signed_url(f"{FILE}?identity=topsecret")
    assert not failed.value.retryable
    assert "topsecret" not in str(failed.value)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_api_that_is_unavailable_is_retryable(api, status):
    api.response = {"status": status}
    with pytest.raises(SourceUnavailableError, match=str(status)):
        await files(api).signed_url(FILE)


async def test_an_api_that_cannot_be_reached_is_retryable(api):
    api.url = "http://127.0.0.1:9"
    with pytest.raises(SourceUnavailableError, match="FAL_API_URL"):
        await files(api).signed_url(FILE)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "x",
        "null",
        "[]",
        "{}",
        '{"signed_url": null}',
        '{"signed_url": "https://v3b.fal.media/files/b/0a1b/other.png?identity=x"}',
        '{"signed_url": "https://h.test/files/b/0a1b/a%2Bb.png?identity=x"}',
        '{"signed_url": "http://v3b.fal.media/files/b/0a1b/a%2Bb.png?identity=x"}',
        '{"signed_url": "https://v3b.fal.media/files/b/0a1b/a%2Bb.png?identity=x\\r\\nX: y"}',
        '{"signed_url": "' + "x" * MAX_ANSWER_BYTES + '"}',
        "[" * 30_000,
    ],
)
async def test_an_answer_without_a_link_to_the_file_is_retryable(api, body):
    api.response = {"text": body}
    with pytest.raises(SourceUnavailableError, match="without a signed link"):
        await files(api).signed_url(FILE)


def test_fals_own_urls_are_those_of_the_default_allowlist():
    assert is_fal_url(FILE)
    assert is_fal_url("https://storage.googleapis.com/falserverless/a")
    assert not is_fal_url("https://storage.googleapis.com/mine/a")
