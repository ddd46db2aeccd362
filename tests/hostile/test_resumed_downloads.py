"""Connections that break during a download, and the responses to the range request that resumes it."""

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
from tests.hostile.raw_server import RawServer, head, reset, send
from tests.time_limits import WAIT_SECONDS

CONTENT, CHANGED = (np.random.default_rng(seed).bytes(size) for seed, size in ((1, 1_000_000), (2, 700_000)))
CUT = 400_000
ETAG = '"one"'


class ByteCounter(Observer):
    def __init__(self):
        self.bytes = 0

    def downloaded(self, size):
        self.bytes += size


class Download:
    """A download from a source that has one response for each request; the last one is repeated."""

    def __init__(self, tmp_path):
        self.target = tmp_path / "source"
        self.observer = ByteCounter()
        self.progress = []
        self.heads = []
        self.requests = []
        self._arrived = asyncio.Event()

    async def fetch(self, *responses, path="/file"):
        async def respond(writer, request):
            await responses[min(len(source.requests), len(responses)) - 1](writer, request, self._arrived)

        async with RawServer(respond) as source:
            self.requests = source.requests
            settings = MediaSettings(_env_file=None, source_allowlist=source.url, max_file_size_mb=1)
            async with asyncio.timeout(WAIT_SECONDS), Downloader(settings, self.observer) as downloader:
                return await downloader.fetch(
                    source.url + path, self.target, progress=self._progress, check_head=self.heads.append
                )

    def _progress(self, downloaded, total):
        self.progress.append((downloaded, total))
        if downloaded == CUT:
            self._arrived.set()


def truncated(content=CONTENT, *, end="fin", **headers):
    """Send the first CUT bytes of a file, wait until they have arrived, and end the connection."""

    async def respond(writer, _request, arrived):
        headers.setdefault("content_length", len(content))
        await send(writer, head(**headers), content[:CUT])
        await arrived.wait()
        if end == "rst":
            reset(writer)

    return respond


def response(status, body=b"", **headers):
    async def respond(writer, _request, _arrived):
        headers.setdefault("content_length", len(body))
        await send(writer, head(status, **headers), body)

    return respond


async def no_response(_writer, _request, _arrived):
    pass


def first_byte(request):
    return int(request["range"].removeprefix("bytes=").removesuffix("-"))


def rest(most=None, **headers):
    """Send a correct response to the range request, but at most `most` bytes of its body."""

    async def respond(writer, request, _arrived):
        start = first_byte(request)
        fields = {"etag": ETAG, "content_range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        fields |= {"content_length": len(CONTENT) - start} | headers
        await send(writer, head("206 Partial Content", **fields), CONTENT[start:][:most])

    return respond


@pytest.fixture
def download(tmp_path):
    return Download(tmp_path)


@pytest.fixture
def no_resume_pauses(monkeypatch):
    monkeypatch.setattr(
        handlers.download.transfer, "RESUME_PAUSES", (0.0,) * len(handlers.download.transfer.RESUME_PAUSES)
    )


@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_broken_connection_is_resumed_at_the_first_missing_byte(download, end):
    got = await download.fetch(truncated(etag=ETAG, end=end), rest(most=100_000), no_response, rest())
    assert download.target.read_bytes() == CONTENT
    assert (got.size, got.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    first, *others = download.requests
    assert not {"range", "if-range"} & first.keys()
    assert first_byte(others[0]) == CUT
    assert [request["if-range"] for request in others] == [ETAG] * 3
    assert {request["accept-encoding"] for request in download.requests} == {"identity"}


async def test_progress_continues_after_a_resume_and_no_byte_counts_twice(download):
    await download.fetch(truncated(etag=ETAG), rest())
    assert [downloaded for downloaded, _ in download.progress] == sorted(
        downloaded for downloaded, _ in download.progress
    )
    assert download.progress[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in download.progress} == {len(CONTENT)}
    assert download.observer.bytes == len(CONTENT)
    assert download.heads == [CONTENT[:4096]]


@pytest.mark.parametrize("tag", [None, 'W/"one"', "one", '""', '"one\x7f"'])
async def test_without_a_strong_etag_a_broken_download_is_not_resumed(download, tag):
    with pytest.raises(SourceUnavailableError) as failed:
        await download.fetch(truncated(etag=tag))
    assert failed.value.retryable
    assert len(download.requests) == 1


async def test_a_response_with_content_encoding_is_not_resumed(download):
    with pytest.raises(SourceUnavailableError):
        await download.fetch(truncated(gzip.compress(CONTENT), etag=ETAG, content_encoding="gzip"))
    assert len(download.requests) == 1


async def test_a_changed_file_is_downloaded_from_its_start(download):
    got = await download.fetch(truncated(etag=ETAG), response("200 OK", CHANGED, etag='"two"'))
    assert download.target.read_bytes() == CHANGED
    assert (got.size, got.sha256) == (len(CHANGED), hashlib.sha256(CHANGED).hexdigest())
    assert download.progress[-1] == (len(CHANGED), len(CHANGED))
    assert download.heads == [CONTENT[:4096], CHANGED[:4096]]


async def test_a_changed_file_is_resumed_with_its_own_etag(download):
    async def new_rest(writer, request, _arrived):
        start = first_byte(request)
        fields = {"etag": '"two"', "content_range": f"bytes {start}-{len(CHANGED) - 1}/{len(CHANGED)}"}
        await send(writer, head("206 Partial Content", **fields), CHANGED[start:])

    await download.fetch(truncated(etag=ETAG), truncated(CHANGED, etag='"two"'), new_rest)
    assert download.target.read_bytes() == CHANGED
    assert [request["if-range"] for request in download.requests[1:]] == [ETAG, '"two"']


WRONG_PARTS = {
    "another part": {"content_range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"},
    "a part of the rest": {"content_range": f"bytes {CUT}-{CUT + 99}/{len(CONTENT)}"},
    "another size": {"content_range": f"bytes {CUT}-{len(CONTENT)}/{len(CONTENT) + 1}"},
    "an end before the start": {"content_range": f"bytes {CUT}-{CUT - 1}/*"},
    "no range": {"content_range": None},
    "another unit": {"content_range": f"items {CUT}-{len(CONTENT) - 1}/{len(CONTENT)}"},
    "figures without end": {"content_range": f"bytes {CUT}-{'9' * 5000}/*"},
    "several parts": {"content_range": None, "content_type": "multipart/byteranges; boundary=x"},
    "another file's tag": {"etag": '"two"'},
    "no tag": {"etag": None},
    "a weak tag": {"etag": f"W/{ETAG}"},
    "a coding": {"content_encoding": "gzip"},
}


@pytest.mark.parametrize("part", WRONG_PARTS)
async def test_a_part_that_is_not_the_missing_rest_is_refused(download, part):
    with pytest.raises(SourceUnavailableError, match="resumed with"):
        await download.fetch(truncated(etag=ETAG), rest(**WRONG_PARTS[part]))
    assert len(download.requests) == 2


@pytest.mark.parametrize("length", [len(CONTENT) - CUT - 1, len(CONTENT) - CUT + 1])
async def test_a_part_of_another_length_than_declared_is_refused(download, length):
    async def wrong_length(writer, _request, _arrived):
        fields = {
            "etag": ETAG,
            "content_range": f"bytes {CUT}-{len(CONTENT) - 1}/{len(CONTENT)}",
            "content_length": length,
        }
        await send(writer, head("206 Partial Content", **fields), bytes(length))

    with pytest.raises(SourceUnavailableError, match=f"of {len(CONTENT)}"):
        await download.fetch(truncated(etag=ETAG), wrong_length)


async def test_a_part_that_makes_the_file_too_large_is_refused_by_its_headers(download):
    more = {"content_range": f"bytes {CUT}-1048576/1048577", "content_length": 1048577 - CUT}
    with pytest.raises(FileSizeExceededError):
        await download.fetch(truncated(etag=ETAG, content_length=None, version="1.0", end="rst"), rest(**more))
    assert download.target.stat().st_size == CUT


async def test_an_empty_part_does_not_end_the_download(download):
    none = {"content_range": f"bytes {CUT}-{CUT - 1}/*", "content_length": 0}
    with pytest.raises(SourceUnavailableError, match="resumed with"):
        await download.fetch(truncated(etag=ETAG, content_length=None, version="1.0", end="rst"), rest(most=0, **none))


async def test_416_with_the_received_size_completes_the_file(download):
    async def unfinished_chunks(writer, _request, arrived):
        chunk = b"%x\r\n%s\r\n" % (CUT, CONTENT[:CUT])
        await send(writer, head(transfer_encoding="chunked", etag=ETAG), chunk)
        await arrived.wait()

    got = await download.fetch(unfinished_chunks, response("416 Range Not Satisfiable", content_range=f"bytes */{CUT}"))
    assert (got.size, got.sha256) == (CUT, hashlib.sha256(CONTENT[:CUT]).hexdigest())


@pytest.mark.parametrize("fields", [None, "bytes */10", f"bytes */{len(CONTENT)}"])
async def test_416_with_another_size_is_refused(download, fields):
    with pytest.raises(SourceUnavailableError, match="cannot resume at byte"):
        await download.fetch(truncated(etag=ETAG), response("416 Range Not Satisfiable", content_range=fields))


async def test_404_on_resume_is_source_gone(download):
    with pytest.raises(SourceGoneError):
        await download.fetch(truncated(etag=ETAG), response("404 Not Found"))


async def test_retry_after_on_resume_ends_the_attempt_with_that_delay(download):
    with pytest.raises(SourceUnavailableError) as failed:
        await download.fetch(truncated(etag=ETAG), response("503 Service Unavailable", retry_after=9))
    assert failed.value.retry_after == 9
    assert len(download.requests) == 2


@pytest.mark.usefixtures("no_resume_pauses")
async def test_resuming_stops_after_the_last_pause(download):
    with pytest.raises(SourceUnavailableError):
        await download.fetch(truncated(etag=ETAG), rest(most=10))
    assert len(download.requests) == 1 + len(handlers.download.transfer.RESUME_PAUSES)


async def test_a_resume_requests_the_redirect_target(download):
    moved = response("302 Found", location="/there")
    await download.fetch(moved, truncated(etag=ETAG), rest())
    assert [request["path"] for request in download.requests] == ["/file", "/there", "/there"]
    assert download.target.read_bytes() == CONTENT


async def test_a_body_without_length_is_complete_when_the_connection_ends(download):
    await download.fetch(truncated(content_length=None, version="1.0"))
    assert download.target.read_bytes() == CONTENT[:CUT]


async def test_a_body_without_length_that_ends_by_a_reset_is_incomplete(download):
    with pytest.raises(SourceUnavailableError):
        await download.fetch(truncated(content_length=None, version="1.0", end="rst"))
