"""The look at a file's first bytes, the pace it has to keep, and what becomes of a download that is called off."""

import asyncio
import time

import pytest

from handlers.download import Downloader
from handlers.download.file_writer import FileWriter, run_in_thread
from handlers.download.transfer import MinimumSpeed
from handlers.errors import FileTypeNotSupportedError, SourceUnavailableError
from handlers.settings import MediaSettings
from tests.hostile.raw_server import Raw, head, send
from tests.time_limits import WAIT_SECONDS


def fetching(source, **settings):
    return Downloader(MediaSettings(_env_file=None, source_allowlist=source.url, max_file_size_mb=1, **settings))


@pytest.mark.parametrize("step", [1000, 4096, 5000])
@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 300_000])
async def test_the_first_bytes_are_shown_once(tmp_path, size, step):
    content, heads = bytes(n % 251 for n in range(size)), []

    async def answer(writer, _request):
        await send(writer, head(content_length=size), *(content[at : at + step] for at in range(0, size, step)))

    async with Raw(answer) as source, fetching(source) as downloader:
        await downloader.fetch(f"{source.url}/f", tmp_path / "f", inspect=heads.append)
    assert heads == [content[:4096]]
    assert (tmp_path / "f").read_bytes() == content


async def test_four_kibibytes_are_enough_to_end_it(tmp_path):
    def refuse(_head):
        raise FileTypeNotSupportedError("not this")

    async def answer(writer, _request):
        await send(writer, head(content_length=10**6), bytes(4096))
        await asyncio.Event().wait()

    async with Raw(answer) as source, fetching(source) as downloader, asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(FileTypeNotSupportedError):
            await downloader.fetch(f"{source.url}/f", tmp_path / "f", inspect=refuse)
    assert (tmp_path / "f").stat().st_size == 0


def test_a_source_may_take_breath_but_not_crawl():
    pace = MinimumSpeed(least=100, window=10)
    pace.note(5000, 0.1)
    pace.note(1, 9)
    pace.note(1, 1)  # a little more than the window: fast enough on average, and the next one begins
    pace.note(500, 5)
    pace.note(490, 4.9)
    with pytest.raises(SourceUnavailableError, match="991 bytes in 10"):
        pace.note(1, 0.2)


def test_any_pace_will_do_where_none_is_asked_for():
    pace = MinimumSpeed(least=0, window=10)
    assert [pace.note(1, 9) for _ in range(100)] == [None] * 100


async def test_a_download_has_its_time_and_no_more(tmp_path):
    async def answer(writer, _request):
        await send(writer, head(content_length=10**6))
        while True:
            await send(writer, bytes(1000))
            await asyncio.sleep(0.05)

    async with Raw(answer) as source, fetching(source, download_timeout_seconds=0.3) as downloader:
        with pytest.raises(SourceUnavailableError, match="too long"):
            await downloader.fetch(f"{source.url}/f", tmp_path / "f")


async def test_nobody_writes_any_more_when_a_download_has_been_called_off():
    steps = []

    def write():
        steps.append("begins")
        time.sleep(0.1)
        steps.append("ends")

    writing = asyncio.create_task(run_in_thread(write))
    while not steps:
        await asyncio.sleep(0.01)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert steps == ["begins", "ends"]


def test_a_file_that_starts_over_leaves_nothing_of_the_first(tmp_path):
    heads = []
    with FileWriter(tmp_path / "f", 100_000, heads.append) as landing:
        landing.write(b"a" * 50_000)
        landing.restart()
        landing.write(b"b" * 10)
        assert landing.finish().size == 10
    assert (tmp_path / "f").read_bytes() == b"b" * 10
    assert heads == [b"a" * 4096, b"b" * 10]
