"""Downloads from a real HTTP server: complete, broken, too large, redirected."""

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


class RecordingObserver(Observer):
    def __init__(self):
        self.bytes = 0
        self.reasons = []

    def downloaded(self, size):
        self.bytes += size

    def denied(self, reason):
        self.reasons.append(reason)


async def complete(_request):
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
    await asyncio.Event().wait()
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
    for handler in (complete, chunked, truncated, endless, stalled, bomb, busy, zipped, empty, redirect, loop):
        app.router.add_get(f"/{handler.__name__}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def observer():
    return RecordingObserver()


@pytest.fixture
async def downloader(url, observer):
    settings = MediaSettings(_env_file=None, source_allowlist=url, stall_timeout_seconds=0.3, max_file_size_mb=2)
    async with Downloader(settings, observer) as created:
        yield created


@pytest.mark.parametrize("path", ["complete", "chunked", "zipped"])
async def test_a_download_returns_path_size_and_hash(downloader, url, tmp_path, path):
    downloaded_file = await downloader.fetch(f"{url}/{path}", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert (downloaded_file.path, downloaded_file.size, downloaded_file.sha256) == (
        tmp_path / "f",
        len(CONTENT),
        hashlib.sha256(CONTENT).hexdigest(),
    )


async def test_received_bytes_are_reported_to_the_observer(downloader, url, observer, tmp_path):
    await downloader.fetch(f"{url}/complete", tmp_path / "f")
    assert observer.bytes == len(CONTENT)


async def test_an_empty_file_is_corrupted_and_retryable(downloader, url, tmp_path):
    with pytest.raises(FileCorruptedError, match="empty") as failed:
        await downloader.fetch(f"{url}/empty", tmp_path / "f")
    assert failed.value.retryable


async def test_a_full_disk_is_disk_full(downloader, url):
    with pytest.raises(OSError, match="No space left") as failed:
        await downloader.fetch(f"{url}/complete", Path("/dev/full"))
    assert failed.value.errno == errno.ENOSPC
    assert unexpected_error(failed.value).code == "disk_full"


async def test_progress_reports_the_total_or_the_bytes_so_far(downloader, url, tmp_path):
    calls = []
    await downloader.fetch(f"{url}/complete", tmp_path / "a", progress=lambda *now: calls.append(now))
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in calls} == {len(CONTENT)}
    calls.clear()
    await downloader.fetch(f"{url}/chunked", tmp_path / "b", progress=lambda *now: calls.append(now))
    assert all(downloaded == total for downloaded, total in calls)


@pytest.mark.parametrize("path", ["endless", "bomb"])
async def test_the_size_limit_applies_to_decoded_bytes(downloader, url, tmp_path, path):
    with pytest.raises(FileSizeExceededError, match="2097152"):
        await downloader.fetch(f"{url}/{path}", tmp_path / "f")
    assert (tmp_path / "f").stat().st_size <= 2_097_152


async def test_the_caller_can_lower_the_size_limit(downloader, url, tmp_path):
    with pytest.raises(FileSizeExceededError):
        await downloader.fetch(f"{url}/complete", tmp_path / "f", max_size=len(CONTENT) - 1)
    await downloader.fetch(f"{url}/complete", tmp_path / "f", max_size=len(CONTENT))


@pytest.mark.parametrize("path", ["truncated", "stalled"])
async def test_a_truncated_or_stalled_download_is_retryable(downloader, url, tmp_path, path):
    with pytest.raises(SourceUnavailableError) as failed:
        await downloader.fetch(f"{url}/{path}", tmp_path / "f")
    assert failed.value.retryable


async def test_errors_do_not_contain_the_query(downloader, url, tmp_path):
    with pytest.raises(SourceGoneError, match="404") as failed:
        await downloader.fetch(f"{url}/none?signature=topsecret", tmp_path / "f")
    assert "topsecret" not in str(failed.value)


async def test_retry_after_is_passed_on(downloader, url, tmp_path):
    with pytest.raises(SourceUnavailableError) as failed:
        await downloader.fetch(f"{url}/busy", tmp_path / "f")
    assert failed.value.retry_after == 7


async def test_a_redirect_is_followed_only_to_allowed_urls(downloader, url, observer, tmp_path):
    downloaded_file = await downloader.fetch(f"{url}/redirect?to=/complete", tmp_path / "f")
    assert downloaded_file.size == len(CONTENT)
    with pytest.raises(SourceForbiddenError):
        await downloader.fetch(f"{url}/redirect?to=http://127.0.0.1:1/x", tmp_path / "f")
    with pytest.raises(SourceForbiddenError):
        await downloader.fetch(f"{url}/redirect?to=file:///etc/passwd", tmp_path / "f")
    with pytest.raises(SourceForbiddenError):
        await downloader.fetch(f"{url}/redirect?to=http://[bad", tmp_path / "f")
    assert observer.reasons == ["not_allowed", "scheme", "malformed"]


async def test_a_redirect_loop_is_refused(downloader, url, tmp_path):
    with pytest.raises(SourceForbiddenError, match="redirects"):
        await downloader.fetch(f"{url}/loop", tmp_path / "f")


async def test_a_closed_port_is_source_unavailable(tmp_path):
    settings = MediaSettings(_env_file=None, source_allowlist="http://127.0.0.1:9")
    async with Downloader(settings) as downloader:
        with pytest.raises(SourceUnavailableError):
            await downloader.fetch("http://127.0.0.1:9/x", tmp_path / "f")
