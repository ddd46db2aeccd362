"""Inspection of the first bytes, minimum speed, time limit, and cancellation of a download."""

import asyncio
import threading

import pytest

from handlers.download import Downloader
from handlers.download.file_writer import FileWriter, run_in_thread
from handlers.download.transfer import MinimumSpeed
from handlers.errors import FileTypeNotSupportedError, SourceUnavailableError
from handlers.settings import MediaSettings
from tests.hostile.raw_server import RawServer, head, send
from tests.time_limits import WAIT_SECONDS


def fetching(source, **settings):
    return Downloader(MediaSettings(_env_file=None, source_allowlist=source.url, max_file_size_mb=1, **settings))


@pytest.mark.parametrize("step", [1000, 4096, 5000])
@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 300_000])
async def test_the_first_4096_bytes_are_inspected_once(tmp_path, size, step):
    content, heads = bytes(n % 251 for n in range(size)), []

    async def respond(writer, _request):
        await send(writer, head(content_length=size), *(content[at : at + step] for at in range(0, size, step)))

    async with RawServer(respond) as source, fetching(source) as downloader:
        await downloader.fetch(f"{source.url}/f", tmp_path / "f", check_head=heads.append)
    assert heads == [content[:4096]]
    assert (tmp_path / "f").read_bytes() == content


async def test_a_refusal_after_4096_bytes_ends_the_download(tmp_path):
    def refuse(_head):
        raise FileTypeNotSupportedError("not this")

    async def respond(writer, _request):
        await send(writer, head(content_length=10**6), bytes(4096))
        await asyncio.Event().wait()

    async with RawServer(respond) as source, fetching(source) as downloader, asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(FileTypeNotSupportedError):
            await downloader.fetch(f"{source.url}/f", tmp_path / "f", check_head=refuse)
    assert (tmp_path / "f").stat().st_size == 0


def test_short_pauses_are_allowed_but_not_a_slow_window():
    speed = MinimumSpeed(bytes_per_second=100, window=10)
    speed.record(5000, 0.1)
    speed.record(1, 9)
    speed.record(1, 1)  # slightly more than the window: fast enough on average, and the next window begins
    speed.record(500, 5)
    speed.record(490, 4.9)
    with pytest.raises(SourceUnavailableError, match="991 bytes in 10"):
        speed.record(1, 0.2)


def test_without_a_minimum_speed_any_speed_is_allowed():
    speed = MinimumSpeed(bytes_per_second=0, window=10)
    assert [speed.record(1, 9) for _ in range(100)] == [None] * 100


async def test_a_download_over_its_time_limit_is_source_unavailable(tmp_path):
    async def respond(writer, _request):
        await send(writer, head(content_length=10**6))
        while True:
            await send(writer, bytes(1000))
            await asyncio.sleep(0.05)

    async with RawServer(respond) as source, fetching(source, download_timeout_seconds=0.3) as downloader:
        with pytest.raises(SourceUnavailableError, match="exceeded its time limit"):
            await downloader.fetch(f"{source.url}/f", tmp_path / "f")


async def test_cancellation_waits_for_a_running_write():
    started, may_finish, finished = threading.Event(), threading.Event(), threading.Event()

    def write():
        started.set()
        may_finish.wait()
        finished.set()

    writing = asyncio.create_task(run_in_thread(write))
    await asyncio.to_thread(started.wait)
    writing.cancel()
    await asyncio.sleep(0)
    assert not writing.done()
    may_finish.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert finished.is_set()


def test_a_restarted_file_has_none_of_the_first_bytes(tmp_path):
    heads = []
    with FileWriter(tmp_path / "f", 100_000, heads.append) as writer:
        writer.write(b"a" * 50_000)
        writer.restart()
        writer.write(b"b" * 10)
        assert writer.finish().size == 10
    assert (tmp_path / "f").read_bytes() == b"b" * 10
    assert heads == [b"a" * 4096, b"b" * 10]
