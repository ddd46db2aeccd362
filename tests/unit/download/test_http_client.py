"""Connections to sources: their number per host, their reuse, and when they are closed."""

import asyncio
import gc
from functools import partial

import pytest

from handlers.download import Downloader
from handlers.download.http_client import SourceClient
from handlers.errors import FileSizeExceededError, FileTypeNotSupportedError, SourceGoneError, SourceUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings
from handlers.turns import Turns
from tests.hostile.raw_server import KEEP_ALIVE, RawServer, head, send
from tests.time_limits import WAIT_SECONDS


def fetching(source, **settings):
    return Downloader(MediaSettings(_env_file=None, source_allowlist=source.url, max_file_size_mb=1, **settings))


class ConcurrencyCounter:
    """Answers each request after `wait`; `peak` is the largest number of concurrent requests."""

    def __init__(self, wait):
        self._wait = wait
        self.current = self.peak = 0

    async def __call__(self, writer, _request):
        self.current += 1
        self.peak = max(self.peak, self.current)
        await self._wait()
        self.current -= 1
        await send(writer, head(content_length=1), b"x")


async def test_connections_to_one_host_are_limited(tmp_path):
    counter = ConcurrencyCounter(asyncio.Barrier(2).wait)
    async with RawServer(counter) as source, fetching(source, max_connections_per_host=2) as downloader:
        await asyncio.gather(*(downloader.fetch(f"{source.url}/{n}", tmp_path / str(n)) for n in range(8)))
    assert counter.peak == 2


async def test_a_few_interim_responses_are_skipped(tmp_path):
    async def hint(writer, _request):
        await send(writer, b"HTTP/1.1 103 Early Hints\r\nLink: </f>\r\n\r\n" * 3, head(content_length=1), b"x")

    async with RawServer(hint) as source, fetching(source) as downloader:
        assert (await downloader.fetch(f"{source.url}/f", tmp_path / "f")).size == 1


async def test_waiting_for_a_connection_does_not_count_as_download_time(tmp_path):
    counter = ConcurrencyCounter(partial(asyncio.sleep, 0.5))
    async with (
        RawServer(counter) as source,
        fetching(source, max_connections_per_host=1, download_timeout_seconds=1.5) as downloader,
    ):
        await asyncio.gather(*(downloader.fetch(f"{source.url}/{n}", tmp_path / str(n)) for n in range(4)))
    assert counter.peak == 1


async def test_a_busy_host_does_not_delay_another(tmp_path):
    arrived = asyncio.Event()

    async def slow(writer, _request):
        await arrived.wait()
        await send(writer, head(content_length=1), b"x")

    async with RawServer(slow) as source:
        port = source.url.rpartition(":")[2]
        hosts = [f"http://127.0.0.{n}:{port}" for n in (1, 2)]
        settings = MediaSettings(_env_file=None, source_allowlist=",".join(hosts), max_connections_per_host=1)
        async with Downloader(settings) as downloader:
            first = asyncio.create_task(downloader.fetch(f"{hosts[0]}/f", tmp_path / "a"))
            async with asyncio.timeout(WAIT_SECONDS):
                while not source.requests:
                    await asyncio.sleep(0.01)
                with pytest.raises(
                    SourceUnavailableError, match="ConnectorError"
                ):  # no server listens on 127.0.0.2, so the connection was tried
                    await downloader.fetch(f"{hosts[1]}/f", tmp_path / "b")
                arrived.set()
                await first


async def test_a_connection_is_reused_for_several_files(tmp_path):
    writers = set()

    async def respond(writer, _request):
        writers.add(writer)
        await send(writer, head(content_length=5), b"hello")
        return KEEP_ALIVE

    async with RawServer(respond) as source, fetching(source) as downloader:
        for number in range(3):
            await downloader.fetch(f"{source.url}/{number}", tmp_path / str(number))
    assert len(writers) == 1


async def too_large(writer, _request):
    await send(writer, head(content_length=10**9), bytes(10_000))
    await asyncio.Event().wait()


async def endless_404(writer, _request):
    await send(writer, head("404 Not Found", content_length=10**9), bytes(10_000))
    await asyncio.Event().wait()


async def html_page(writer, _request):
    await send(writer, head(content_length=10**6), b"<html>" + b"x" * 4096)
    await asyncio.Event().wait()


def refuse_html(start):
    if start.startswith(b"<html>"):
        raise FileTypeNotSupportedError("a page")


@pytest.mark.parametrize(
    ("respond", "error"),
    [
        (too_large, FileSizeExceededError),
        (endless_404, SourceGoneError),
        (html_page, FileTypeNotSupportedError),
    ],
)
async def test_after_a_refusal_the_connection_is_closed(tmp_path, respond, error):
    async with RawServer(respond) as source, fetching(source) as downloader, asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(error):
            await downloader.fetch(f"{source.url}/f", tmp_path / "f", check_head=refuse_html)
        while not source.disconnects:
            await asyncio.sleep(0.01)
    assert source.disconnects == 1


async def test_bytes_after_a_body_are_not_the_next_response(tmp_path):
    forged = head(content_length=6) + b"forged"

    async def respond(writer, request):
        await send(writer, head(content_length=5), b"hello")
        if request["path"] == "/first":
            await send(writer, forged)
        return KEEP_ALIVE

    async with RawServer(respond) as source, fetching(source) as downloader:
        await downloader.fetch(f"{source.url}/first", tmp_path / "first")
        await downloader.fetch(f"{source.url}/second", tmp_path / "second")
    assert [(tmp_path / name).read_bytes() for name in ("first", "second")] == [b"hello", b"hello"]


async def test_probing_a_file_does_not_download_it():
    async with RawServer(too_large) as source, fetching(source) as downloader, asyncio.timeout(WAIT_SECONDS):
        await downloader.probe(f"{source.url}/f")
        while not source.disconnects:
            await asyncio.sleep(0.01)
    assert source.disconnects == 1


async def test_a_host_is_tracked_only_while_it_has_connections():
    async with RawServer(html_page) as source:
        client = SourceClient(MediaSettings(_env_file=None, source_allowlist=source.url), Observer())
        before = count_turns()
        async with asyncio.timeout(WAIT_SECONDS) as deadline, client.open(f"{source.url}/f", deadline):
            assert count_turns() == before + 1
        assert count_turns() == before
        await client.aclose()


def count_turns():
    """Return the number of `Turns` in memory: the client limits the connections to a host by one."""
    gc.collect()  # those of earlier tests
    return sum(type(each) is Turns for each in gc.get_objects())
