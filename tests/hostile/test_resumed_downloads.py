"""Connections that break in the middle, and what sources say when they are asked for the rest."""

import asyncio
import gzip
import hashlib

import numpy as np
import pytest

import handlers.download.transfer
from handlers.download import Downloader
from handlers.errors import FileSizeExceededError, SourceGoneError, SourceUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings
from tests.hostile.raw_server import Raw, head, reset, send
from tests.time_limits import SOON

OLD, NEW = (np.random.default_rng(seed).bytes(size) for seed, size in ((1, 1_000_000), (2, 700_000)))
CUT = 400_000
TAG = '"one"'


class Watch(Observer):
    def __init__(self):
        self.bytes = 0

    def downloaded(self, size):
        self.bytes += size


class Visit:
    """A download from a source that gives each request its own answer, the last of them ever again."""

    def __init__(self, tmp_path):
        self.target = tmp_path / "source"
        self.watch = Watch()
        self.told = []
        self.heads = []
        self.requests = []
        self._arrived = asyncio.Event()

    async def fetch(self, *answers, path="/file"):
        async def answer(writer, request):
            await answers[min(len(source.requests), len(answers)) - 1](writer, request, self._arrived)

        async with Raw(answer) as source:
            self.requests = source.requests
            settings = MediaSettings(_env_file=None, source_allowlist=source.url, max_file_size_mb=1)
            async with asyncio.timeout(SOON), Downloader(settings, self.watch) as downloader:
                return await downloader.fetch(
                    source.url + path, self.target, progress=self._progress, inspect=self.heads.append
                )

    def _progress(self, downloaded, total):
        self.told.append((downloaded, total))
        if downloaded == CUT:
            self._arrived.set()


def breaks(content=OLD, *, end="fin", **headers):
    """Send the first CUT bytes of a file, wait until they have arrived, and break the connection."""

    async def answer(writer, _request, arrived):
        headers.setdefault("content_length", len(content))
        await send(writer, head(**headers), content[:CUT])
        await arrived.wait()
        if end == "rst":
            reset(writer)

    return answer


def says(status, body=b"", **headers):
    async def answer(writer, _request, _arrived):
        headers.setdefault("content_length", len(body))
        await send(writer, head(status, **headers), body)

    return answer


async def hangs_up(_writer, _request, _arrived):
    pass


def first_byte(request):
    return int(request["range"].removeprefix("bytes=").removesuffix("-"))


def rest(most=None, **headers):
    """Send what was asked for, as it should be; at most so many bytes of it."""

    async def answer(writer, request, _arrived):
        start = first_byte(request)
        said = {"etag": TAG, "content_range": f"bytes {start}-{len(OLD) - 1}/{len(OLD)}"}
        said |= {"content_length": len(OLD) - start} | headers
        await send(writer, head("206 Partial Content", **said), OLD[start:][:most])

    return answer


@pytest.fixture
def visit(tmp_path):
    return Visit(tmp_path)


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(
        handlers.download.transfer, "RESUME_PAUSES", (0.0,) * len(handlers.download.transfer.RESUME_PAUSES)
    )


@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_broken_connection_is_resumed_where_it_broke(visit, end):
    got = await visit.fetch(breaks(etag=TAG, end=end), rest(most=100_000), hangs_up, rest())
    assert visit.target.read_bytes() == OLD
    assert (got.size, got.sha256) == (len(OLD), hashlib.sha256(OLD).hexdigest())
    first, *others = visit.requests
    assert not {"range", "if-range"} & first.keys()
    assert first_byte(others[0]) == CUT
    assert [request["if-range"] for request in others] == [TAG] * 3
    assert {request["accept-encoding"] for request in visit.requests} == {"identity"}


async def test_progress_goes_on_from_there_and_nothing_counts_twice(visit):
    await visit.fetch(breaks(etag=TAG), rest())
    assert [downloaded for downloaded, _ in visit.told] == sorted(downloaded for downloaded, _ in visit.told)
    assert visit.told[-1] == (len(OLD), len(OLD))
    assert {total for _, total in visit.told} == {len(OLD)}
    assert visit.watch.bytes == len(OLD)
    assert visit.heads == [OLD[:4096]]


@pytest.mark.parametrize("tag", [None, 'W/"one"', "one", '""', '"one\x7f"'])
async def test_without_a_strong_tag_the_attempt_has_failed(visit, tag):
    with pytest.raises(SourceUnavailableError) as failed:
        await visit.fetch(breaks(etag=tag))
    assert failed.value.retryable
    assert len(visit.requests) == 1


async def test_a_coded_answer_is_not_resumed(visit):
    with pytest.raises(SourceUnavailableError):
        await visit.fetch(breaks(gzip.compress(OLD), etag=TAG, content_encoding="gzip"))
    assert len(visit.requests) == 1


async def test_a_file_that_has_changed_is_taken_from_its_start(visit):
    got = await visit.fetch(breaks(etag=TAG), says("200 OK", NEW, etag='"two"'))
    assert visit.target.read_bytes() == NEW
    assert (got.size, got.sha256) == (len(NEW), hashlib.sha256(NEW).hexdigest())
    assert visit.told[-1] == (len(NEW), len(NEW))
    assert visit.heads == [OLD[:4096], NEW[:4096]]


async def test_what_changed_is_resumed_by_its_own_tag(visit):
    async def new_rest(writer, request, _arrived):
        start = first_byte(request)
        said = {"etag": '"two"', "content_range": f"bytes {start}-{len(NEW) - 1}/{len(NEW)}"}
        await send(writer, head("206 Partial Content", **said), NEW[start:])

    await visit.fetch(breaks(etag=TAG), breaks(NEW, etag='"two"'), new_rest)
    assert visit.target.read_bytes() == NEW
    assert [request["if-range"] for request in visit.requests[1:]] == [TAG, '"two"']


LIES = {
    "another part": {"content_range": f"bytes 0-{len(OLD) - 1}/{len(OLD)}"},
    "a part of the rest": {"content_range": f"bytes {CUT}-{CUT + 99}/{len(OLD)}"},
    "another size": {"content_range": f"bytes {CUT}-{len(OLD)}/{len(OLD) + 1}"},
    "an end before the start": {"content_range": f"bytes {CUT}-{CUT - 1}/*"},
    "no range": {"content_range": None},
    "another unit": {"content_range": f"items {CUT}-{len(OLD) - 1}/{len(OLD)}"},
    "figures without end": {"content_range": f"bytes {CUT}-{'9' * 5000}/*"},
    "several parts": {"content_range": None, "content_type": "multipart/byteranges; boundary=x"},
    "another file's tag": {"etag": '"two"'},
    "no tag": {"etag": None},
    "a weak tag": {"etag": f"W/{TAG}"},
    "a coding": {"content_encoding": "gzip"},
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_part_that_is_not_the_rest_is_refused(visit, lie):
    with pytest.raises(SourceUnavailableError, match="resumed with"):
        await visit.fetch(breaks(etag=TAG), rest(**LIES[lie]))
    assert len(visit.requests) == 2


@pytest.mark.parametrize("length", [len(OLD) - CUT - 1, len(OLD) - CUT + 1])
async def test_a_part_of_another_length_than_it_says_is_refused(visit, length):
    async def lying(writer, _request, _arrived):
        said = {"etag": TAG, "content_range": f"bytes {CUT}-{len(OLD) - 1}/{len(OLD)}", "content_length": length}
        await send(writer, head("206 Partial Content", **said), bytes(length))

    with pytest.raises(SourceUnavailableError, match=f"of {len(OLD)}"):
        await visit.fetch(breaks(etag=TAG), lying)


async def test_a_rest_that_makes_the_file_too_large_is_refused_by_its_head(visit):
    more = {"content_range": f"bytes {CUT}-1048576/1048577", "content_length": 1048577 - CUT}
    with pytest.raises(FileSizeExceededError):
        await visit.fetch(breaks(etag=TAG, content_length=None, version="1.0", end="rst"), rest(**more))
    assert visit.target.stat().st_size == CUT


async def test_a_part_without_a_byte_is_no_end(visit):
    none = {"content_range": f"bytes {CUT}-{CUT - 1}/*", "content_length": 0}
    with pytest.raises(SourceUnavailableError, match="resumed with"):
        await visit.fetch(breaks(etag=TAG, content_length=None, version="1.0", end="rst"), rest(most=0, **none))


async def test_nothing_more_to_come_means_that_all_is_there(visit):
    async def chunks(writer, _request, arrived):
        chunk = b"%x\r\n%s\r\n" % (CUT, OLD[:CUT])
        await send(writer, head(transfer_encoding="chunked", etag=TAG), chunk)
        await arrived.wait()

    got = await visit.fetch(chunks, says("416 Range Not Satisfiable", content_range=f"bytes */{CUT}"))
    assert (got.size, got.sha256) == (CUT, hashlib.sha256(OLD[:CUT]).hexdigest())


@pytest.mark.parametrize("said", [None, "bytes */10", f"bytes */{len(OLD)}"])
async def test_nothing_there_where_the_file_should_go_on_is_refused(visit, said):
    with pytest.raises(SourceUnavailableError, match="nothing from byte"):
        await visit.fetch(breaks(etag=TAG), says("416 Range Not Satisfiable", content_range=said))


async def test_what_is_gone_meanwhile_is_gone(visit):
    with pytest.raises(SourceGoneError):
        await visit.fetch(breaks(etag=TAG), says("404 Not Found"))


async def test_a_source_that_asks_for_time_is_given_it(visit):
    with pytest.raises(SourceUnavailableError) as failed:
        await visit.fetch(breaks(etag=TAG), says("503 Service Unavailable", retry_after=9))
    assert failed.value.retry_after == 9
    assert len(visit.requests) == 2


@pytest.mark.usefixtures("at_once")
async def test_a_connection_that_always_breaks_is_given_up(visit):
    with pytest.raises(SourceUnavailableError):
        await visit.fetch(breaks(etag=TAG), rest(most=10))
    assert len(visit.requests) == 1 + len(handlers.download.transfer.RESUME_PAUSES)


async def test_the_rest_is_asked_for_where_the_redirect_led(visit):
    moved = says("302 Found", location="/there")
    await visit.fetch(moved, breaks(etag=TAG), rest())
    assert [request["path"] for request in visit.requests] == ["/file", "/there", "/there"]
    assert visit.target.read_bytes() == OLD


async def test_a_body_that_ends_with_its_connection_is_whole(visit):
    await visit.fetch(breaks(content_length=None, version="1.0"))
    assert visit.target.read_bytes() == OLD[:CUT]


async def test_a_body_that_ends_by_a_reset_is_not(visit):
    with pytest.raises(SourceUnavailableError):
        await visit.fetch(breaks(content_length=None, version="1.0", end="rst"))
