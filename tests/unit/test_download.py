"""Downloads from a real server that behaves as sources do, well and badly."""

import asyncio
import errno
import gzip
import hashlib
from pathlib import Path

import pytest
from aiohttp import web

from handlers.download import Downloader
from handlers.errors import (
    FileCorruptedError,
    FileSizeExceededError,
    SourceForbiddenError,
    SourceGoneError,
    SourceUnavailableError,
)
from handlers.observer import Observer
from handlers.pipeline import unexpected_error
from handlers.settings import MediaSettings

CONTENT = bytes(range(256)) * 4096


class Watch(Observer):
    def __init__(self):
        self.bytes = 0
        self.reasons = []

    def downloaded(self, size):
        self.bytes += size

    def denied(self, reason):
        self.reasons.append(reason)


async def whole(_request):
    return web.Response(body=CONTENT)


async def chunked(request):
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(CONTENT)
    await response.write_eof()
    return response


async def truncated(request):
    response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
    await response.prepare(request)
    await response.write(CONTENT[:1000])
    request.transport.close()
    return response


async def endless(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(CONTENT)


async def stalled(request):
    response = web.StreamResponse(headers={"Content-Length": "10"})
    await response.prepare(request)
    await response.write(b"12345")
    await asyncio.sleep(30)
    return response


async def bomb(_request):
    return web.Response(body=gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"})


async def busy(_request):
    return web.Response(status=503, headers={"Retry-After": "7"})


async def zipped(_request):
    return web.Response(body=gzip.compress(CONTENT), headers={"Content-Encoding": "gzip"})


async def empty(_request):
    return web.Response()


async def redirect(request):
    return web.Response(status=302, headers={"Location": request.query["to"]})


async def loop(request):
    return web.Response(status=307, headers={"Location": str(request.url)})


@pytest.fixture
async def url():
    app = web.Application()
    for handler in (whole, chunked, truncated, endless, stalled, bomb, busy, zipped, empty, redirect, loop):
        app.router.add_get(f"/{handler.__name__}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
async def downloader(url, watch):
    settings = MediaSettings(_env_file=None, source_allowlist=url, stall_timeout_seconds=0.3, max_file_size_mb=2)
    async with Downloader(settings, watch) as made:
        yield made


@pytest.mark.parametrize("path", ["whole", "chunked", "zipped"])
async def test_a_file_arrives_whole_and_hashed(downloader, url, tmp_path, path):
    got = await downloader.fetch(f"{url}/{path}", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert (got.path, got.size, got.sha256) == (tmp_path / "f", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


async def test_what_was_received_is_counted(downloader, url, watch, tmp_path):
    await downloader.fetch(f"{url}/whole", tmp_path / "f")
    assert watch.bytes == len(CONTENT)


async def test_an_empty_file_is_none(downloader, url, tmp_path):
    with pytest.raises(FileCorruptedError, match="empty"):
        await downloader.fetch(f"{url}/empty", tmp_path / "f")


async def test_a_full_disk_is_told_as_such(downloader, url):
    with pytest.raises(OSError, match="No space left") as failed:
        await downloader.fetch(f"{url}/whole", Path("/dev/full"))
    assert failed.value.errno == errno.ENOSPC
    assert unexpected_error(failed.value).code == "disk_full"


async def test_progress_tells_the_total_or_what_it_has(downloader, url, tmp_path):
    told = []
    await downloader.fetch(f"{url}/whole", tmp_path / "a", progress=lambda *now: told.append(now))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in told} == {len(CONTENT)}
    told.clear()
    await downloader.fetch(f"{url}/chunked", tmp_path / "b", progress=lambda *now: told.append(now))
    assert all(downloaded == total for downloaded, total in told)


@pytest.mark.parametrize("path", ["endless", "bomb"])
async def test_size_is_counted_on_what_arrives(downloader, url, tmp_path, path):
    with pytest.raises(FileSizeExceededError, match="2097152"):
        await downloader.fetch(f"{url}/{path}", tmp_path / "f")
    assert (tmp_path / "f").stat().st_size <= 2_097_152


async def test_the_caller_may_allow_less(downloader, url, tmp_path):
    with pytest.raises(FileSizeExceededError):
        await downloader.fetch(f"{url}/whole", tmp_path / "f", max_size=len(CONTENT) - 1)
    await downloader.fetch(f"{url}/whole", tmp_path / "f", max_size=len(CONTENT))


@pytest.mark.parametrize("path", ["truncated", "stalled"])
async def test_what_breaks_off_or_falls_silent_is_tried_again_later(downloader, url, tmp_path, path):
    with pytest.raises(SourceUnavailableError) as failed:
        await downloader.fetch(f"{url}/{path}", tmp_path / "f")
    assert failed.value.retryable


async def test_errors_do_not_repeat_signatures(downloader, url, tmp_path):
    with pytest.raises(SourceGoneError, match="404") as failed:
        await downloader.fetch(f"{url}/none?signature=topsecret", tmp_path / "f")
    assert "topsecret" not in str(failed.value)


async def test_the_time_a_source_asks_for_is_handed_on(downloader, url, tmp_path):
    with pytest.raises(SourceUnavailableError) as failed:
        await downloader.fetch(f"{url}/busy", tmp_path / "f")
    assert failed.value.retry_after == 7


async def test_a_redirect_is_followed_and_checked(downloader, url, watch, tmp_path):
    got = await downloader.fetch(f"{url}/redirect?to=/whole", tmp_path / "f")
    assert got.size == len(CONTENT)
    with pytest.raises(SourceForbiddenError):
        await downloader.fetch(f"{url}/redirect?to=http://127.0.0.1:1/x", tmp_path / "f")
    with pytest.raises(SourceForbiddenError):
        await downloader.fetch(f"{url}/redirect?to=file:///etc/passwd", tmp_path / "f")
    with pytest.raises(SourceForbiddenError):
        await downloader.fetch(f"{url}/redirect?to=http://[bad", tmp_path / "f")
    assert watch.reasons == ["not_allowed", "scheme", "malformed"]


async def test_redirects_end(downloader, url, tmp_path):
    with pytest.raises(SourceForbiddenError, match="redirects"):
        await downloader.fetch(f"{url}/loop", tmp_path / "f")


async def test_nobody_listening_is_unavailable(tmp_path):
    settings = MediaSettings(_env_file=None, source_allowlist="http://127.0.0.1:9")
    async with Downloader(settings) as downloader:
        with pytest.raises(SourceUnavailableError):
            await downloader.fetch("http://127.0.0.1:9/x", tmp_path / "f")
