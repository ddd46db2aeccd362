"""How many connections there are to a source, and what becomes of them."""

import asyncio

import pytest

from handlers.download import Downloader
from handlers.download.http_client import SourceClient
from handlers.errors import FileSizeExceededError, FileTypeNotSupportedError, SourceGoneError, SourceUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings
from tests.hostile.raw_server import Raw, head, send
from tests.time_limits import WAIT_SECONDS


def fetching(source, **settings):
    return Downloader(MediaSettings(_env_file=None, source_allowlist=source.url, max_file_size_mb=1, **settings))


class Crowd:
    """A source whose answers take a while; `most` of them were under way at once."""

    def __init__(self, seconds):
        self._seconds = seconds
        self.now = self.most = 0

    async def __call__(self, writer, _request):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self._seconds)
        self.now -= 1
        await send(writer, head(content_length=1), b"x")


async def test_one_host_has_so_many_connections_and_no_more(tmp_path):
    crowd = Crowd(0.05)
    async with Raw(crowd) as source, fetching(source, max_connections_per_host=2) as downloader:
        await asyncio.gather(*(downloader.fetch(f"{source.url}/{n}", tmp_path / str(n)) for n in range(7)))
    assert crowd.most == 2


async def test_waiting_for_others_takes_nothing_of_a_downloads_own_time(tmp_path):
    crowd = Crowd(0.5)
    async with (
        Raw(crowd) as source,
        fetching(source, max_connections_per_host=1, download_timeout_seconds=1.5) as downloader,
    ):
        await asyncio.gather(*(downloader.fetch(f"{source.url}/{n}", tmp_path / str(n)) for n in range(4)))
    assert crowd.most == 1


async def test_one_host_does_not_wait_for_another(tmp_path):
    arrived = asyncio.Event()

    async def slow(writer, _request):
        await arrived.wait()
        await send(writer, head(content_length=1), b"x")

    async with Raw(slow) as source:
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
                ):  # nobody listens there, so it was tried
                    await downloader.fetch(f"{hosts[1]}/f", tmp_path / "b")
                arrived.set()
                await first


async def test_a_connection_serves_one_file_after_another(tmp_path):
    writers = set()

    async def answer(writer, _request):
        writers.add(writer)
        await send(writer, head(content_length=5), b"hello")
        return "more"

    async with Raw(answer) as source, fetching(source) as downloader:
        for number in range(3):
            await downloader.fetch(f"{source.url}/{number}", tmp_path / str(number))
    assert len(writers) == 1


async def declares_too_much(writer, _request):
    await send(writer, head(content_length=10**9), bytes(10_000))
    await asyncio.Event().wait()


async def refuses_at_length(writer, _request):
    await send(writer, head("404 Not Found", content_length=10**9), bytes(10_000))
    await asyncio.Event().wait()


async def is_a_page(writer, _request):
    await send(writer, head(content_length=10**6), b"<html>" + b"x" * 4096)
    await asyncio.Event().wait()


def no_page(start):
    if start.startswith(b"<html>"):
        raise FileTypeNotSupportedError("a page")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (declares_too_much, FileSizeExceededError),
        (refuses_at_length, SourceGoneError),
        (is_a_page, FileTypeNotSupportedError),
    ],
)
async def test_after_a_refusal_the_connection_is_cut_and_nothing_more_is_read(tmp_path, answer, error):
    async with Raw(answer) as source, fetching(source) as downloader, asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(error):
            await downloader.fetch(f"{source.url}/f", tmp_path / "f", inspect=no_page)
        while not source.left:
            await asyncio.sleep(0.01)


async def test_a_body_longer_than_declared_does_not_become_the_next_answer(tmp_path):
    forged = head(content_length=6) + b"forged"

    async def answer(writer, request):
        await send(writer, head(content_length=5), b"hello")
        if request["path"] == "/first":
            await send(writer, forged)
        return "more"

    async with Raw(answer) as source, fetching(source) as downloader:
        await downloader.fetch(f"{source.url}/first", tmp_path / "first")
        await downloader.fetch(f"{source.url}/second", tmp_path / "second")
    assert [(tmp_path / name).read_bytes() for name in ("first", "second")] == [b"hello", b"hello"]


async def test_asking_whether_a_file_is_there_fetches_none_of_it():
    async with Raw(declares_too_much) as source, fetching(source) as downloader, asyncio.timeout(WAIT_SECONDS):
        await downloader.probe(f"{source.url}/f")
        while not source.left:
            await asyncio.sleep(0.01)
        assert source.left


async def test_hosts_nobody_visits_are_forgotten():
    async with Raw(is_a_page) as source:
        connections = SourceClient(MediaSettings(_env_file=None, source_allowlist=source.url), Observer())
        async with asyncio.timeout(WAIT_SECONDS) as clock, connections.open(f"{source.url}/f", clock):
            assert len(connections._rooms) == 1
        assert len(connections._rooms) == 0
        await connections.aclose()
