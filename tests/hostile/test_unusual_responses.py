"""Responses that are unusual but have the file, or will have it: what real servers and proxies send."""

import gzip
import zlib

import pytest

from handlers.download import Downloader
from handlers.download.http_client import MAX_HEAD_FIELDS, MAX_HEAD_LINE_BYTES
from handlers.errors import FileProcessingError, SourceUnavailableError
from handlers.settings import MediaSettings
from tests.hostile.raw_server import RawServer, head, send

CONTENT = bytes(range(256)) * 40
GZIPPED = gzip.compress(CONTENT)


async def fetch(tmp_path, *responses):
    """Download from a source that has one response for each request; return the content."""

    async def respond(writer, _request):
        await send(writer, *responses[len(source.requests) - 1])

    async with RawServer(respond) as source:
        settings = MediaSettings(_env_file=None, source_allowlist=source.url, max_file_size_mb=1)
        async with Downloader(settings) as downloader:
            await downloader.fetch(f"{source.url}/f", tmp_path / "f")
    return (tmp_path / "f").read_bytes()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        *((name, CONTENT) for name in ("aws-chunked", "UTF-8", "utf8", "none", "binary", "", "8bit", "identity,none")),
        ("gzip, identity", GZIPPED),
        ("aws-chunked, gzip", GZIPPED),
        ("gzip", gzip.compress(CONTENT[:3000]) + gzip.compress(CONTENT[3000:])),
        ("gzip", GZIPPED + bytes(1000)),
        ("deflate", zlib.compress(CONTENT)),
        ("deflate", zlib.compress(CONTENT)[2:-4]),
    ],
)
async def test_a_false_or_unusual_content_encoding_does_not_stop_a_download(tmp_path, coding, body):
    assert await fetch(tmp_path, [head(content_encoding=coding, content_length=len(body)), body]) == CONTENT


async def test_a_false_content_encoding_does_not_stop_a_resumption(tmp_path):
    shared = {"etag": '"e"', "content_encoding": "aws-chunked"}
    cut = [head(content_length=len(CONTENT), **shared), CONTENT[:5000]]
    content_range = f"bytes 5000-{len(CONTENT) - 1}/{len(CONTENT)}"
    rest = CONTENT[5000:]
    resumed = [head("206 Partial Content", content_length=len(rest), content_range=content_range, **shared), rest]
    assert await fetch(tmp_path, cut, resumed) == CONTENT


@pytest.mark.parametrize(
    "status_and_headers",
    [
        ("203 Non-Authoritative Information", {}),
        ("206 Partial Content", {"content_range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}),
    ],
)
async def test_another_status_with_the_whole_file_is_accepted(tmp_path, status_and_headers):
    status, headers = status_and_headers
    assert await fetch(tmp_path, [head(status, content_length=len(CONTENT), **headers), CONTENT]) == CONTENT


@pytest.mark.parametrize(
    ("status", "headers", "code", "retry_after"),
    [
        ("202 Accepted", {}, "source_unavailable", None),
        ("206 Partial Content", {"content_range": "bytes 0-4/10"}, "source_unavailable", None),
        ("409 Conflict", {}, "source_unavailable", None),
        ("421 Misdirected Request", {}, "source_unavailable", None),
        ("423 Locked", {}, "source_unavailable", None),
        ("403 Forbidden", {"retry_after": "30"}, "source_unavailable", 30),
        ("404 Not Found", {}, "source_gone", None),
        ("200 OK", {}, "corrupted", None),
    ],
)
async def test_a_file_that_may_come_later_is_retryable(tmp_path, status, headers, code, retry_after):
    with pytest.raises(FileProcessingError) as failed:
        await fetch(tmp_path, [head(status, content_length=0, **headers)])
    assert (failed.value.code, failed.value.retryable, failed.value.retry_after) == (code, True, retry_after)


def fields(number, size):
    return b"".join(b"X-%04d: %s\r\n" % (n, b"x" * (size - len("X-0000: "))) for n in range(number))


@pytest.mark.parametrize(("number", "size"), [(1, 12_000), (350, 100), (100, 12_000), (MAX_HEAD_FIELDS - 10, 12_000)])
async def test_a_large_head_is_accepted(tmp_path, number, size):
    start = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(CONTENT)
    assert await fetch(tmp_path, [start, fields(number, size), b"\r\n", CONTENT]) == CONTENT


async def test_a_long_redirect_target_is_followed(tmp_path):
    location = f"/f?X-Amz-Security-Token={'t' * 8_100}"
    redirect = head("302 Found", location=location, content_length=0)
    assert await fetch(tmp_path, [redirect], [head(content_length=len(CONTENT)), CONTENT]) == CONTENT


@pytest.mark.parametrize(("number", "size"), [(1, MAX_HEAD_LINE_BYTES + 100), (MAX_HEAD_FIELDS + 1, 20)])
async def test_a_larger_head_is_refused_with_the_limits(tmp_path, number, size):
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Secret: topsecret\r\n"
    with pytest.raises(SourceUnavailableError, match="a line over 16384 bytes or more than 400 fields") as failed:
        await fetch(tmp_path, [start, fields(number, size), b"\r\nx"])
    assert "topsecret" not in str(failed.value)
