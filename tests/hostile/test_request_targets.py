"""URLs reach the server with the characters they were given in, also after redirects and when a download resumes.

A signed link is valid only with these characters. Nothing in a URL can end the request line or choose another server.
"""

import pytest

from handlers.download import Downloader
from handlers.errors import SourceForbiddenError
from handlers.settings import MediaSettings
from tests.hostile.raw_server import RawServer, head, send

SIGNED = [
    "/f?sig=a%2Bb%2Fc%3D%3D",
    "/f?sig=a+b/c==",
    "/f?q=%27%7E%61%2f%3a",
    "/%7Euser/%61/%2F%27/f%2B+f",
    "/f?X-Amz-Credential=AKIA%2F20260101%2Fus-east-1%2Fs3%2Faws4_request",
    "/f?a&b=&=c&&d?e",
    "/f;v=1,2!$&'()*:@",
    "/f?json=[1|2]",
    "//f//g",
]
ENCODED = [
    ("/a b?c d", "/a%20b?c%20d"),
    ("/ü/日本?ü=é", "/%C3%BC/%E6%97%A5%E6%9C%AC?%C3%BC=%C3%A9"),
    ("/ü%c3%bc", "/%C3%BC%c3%bc"),
    ("/100%/%zz", "/100%25/%25zz"),
    ('/"<>^`{}', "/%22%3C%3E%5E%60%7B%7D"),
    ("/f HTTP/1.1", "/f%20HTTP/1.1"),
    ("/f\u2028Host:x", "/f%E2%80%A8Host:x"),
    ("/f#fragment", "/f"),
    ("?only=query", "/?only=query"),
    ("", "/"),
]
RESOLVED = [("/a/../f%7E", "/f~"), ("/a/%2e%2E/f", "/f"), ("/a/./f?x=%7E/../", "/a/f?x=%7E/../")]


async def fetch(url, source, tmp_path):
    async with Downloader(MediaSettings(_env_file=None, source_allowlist=source.url)) as downloader:
        await downloader.fetch(url, tmp_path / "f")


async def content(writer, _request):
    await send(writer, head(content_length=1), b"x")


def redirecting(location):
    async def respond(writer, request):
        if request["path"] == "/start/here":
            await send(writer, f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            await content(writer, request)

    return respond


@pytest.mark.parametrize(("given", "target"), [*((path, path) for path in SIGNED), *ENCODED, *RESOLVED])
async def test_the_request_target_is_what_was_given(tmp_path, given, target):
    async with RawServer(content) as source:
        await fetch(source.url + given, source, tmp_path)
    assert [request["path"] for request in source.requests] == [target]


@pytest.mark.parametrize(("given", "target"), [*((path, path) for path in SIGNED[:-1]), *ENCODED[:-1]])
async def test_the_target_of_a_relative_redirect_is_what_the_server_gave(tmp_path, given, target):
    async with RawServer(redirecting(given)) as source:
        await fetch(f"{source.url}/start/here", source, tmp_path)
    expected = f"/start/here{target[1:]}" if given.startswith("?") else target
    assert [request["path"] for request in source.requests] == ["/start/here", expected]


@pytest.mark.parametrize(
    ("location", "target"),
    [("g?sig=%2B%7e", "/start/g?sig=%2B%7e"), ("?sig=%2B%7e", "/start/here?sig=%2B%7e"), ("../%61", "/%61")],
)
async def test_a_reference_is_resolved_without_another_change(tmp_path, location, target):
    async with RawServer(redirecting(location)) as source:
        await fetch(f"{source.url}/start/here", source, tmp_path)
    assert source.requests[-1]["path"] == target


@pytest.mark.parametrize("path", SIGNED)
async def test_the_target_of_an_absolute_redirect_is_what_the_server_gave(tmp_path, path):
    async with RawServer(content) as target, RawServer(redirecting(target.url + path)) as source:
        settings = MediaSettings(_env_file=None, source_allowlist=(source.url, target.url))
        async with Downloader(settings) as downloader:
            await downloader.fetch(f"{source.url}/start/here", tmp_path / "f")
    assert [request["path"] for request in target.requests] == [path]


async def test_a_resumed_download_requests_the_same_target(tmp_path):
    async def respond(writer, request):
        if "range" not in request:
            await send(writer, head(content_length=2, etag='"e"'), b"x")
        else:
            range_headers = head("206 Partial Content", content_length=1, content_range="bytes 1-1/2", etag='"e"')
            await send(writer, range_headers, b"y")

    async with RawServer(respond) as source:
        await fetch(f"{source.url}/f?sig=a%2Bb%2Fc%3D%3D%7E", source, tmp_path)
    assert [request["path"] for request in source.requests] == ["/f?sig=a%2Bb%2Fc%3D%3D%7E"] * 2
    assert (tmp_path / "f").read_bytes() == b"xy"


@pytest.mark.parametrize(
    "path",
    [
        "/f HTTP/1.1\r\nHost: internal\r\n\r\nGET /admin",
        "/f\nX-Forwarded-For: 127.0.0.1",
        "/f\r",
        "/f\t",
        "/f\x00",
        "/f?\x7f",
        "/f?x=\ud800",
        "/%0d%0aX: y",
        "/%2e%2e%2fadmin",
        "/..%5cadmin",
    ],
)
async def test_a_url_that_could_end_the_request_line_or_leave_its_folder_is_not_requested(tmp_path, path):
    async with RawServer(content) as source:
        with pytest.raises(SourceForbiddenError):
            await fetch(source.url + path, source, tmp_path)
    assert source.requests == []


@pytest.mark.parametrize("path", ["/files/%2e%2e/admin", "/files/../admin", "/%66iles/../admin", "/files%2f..%2fadmin"])
async def test_another_spelling_of_a_folder_does_not_leave_it(tmp_path, path):
    async with RawServer(content) as source:
        settings = MediaSettings(_env_file=None, source_allowlist=f"{source.url}/files/")
        async with Downloader(settings) as downloader:
            with pytest.raises(SourceForbiddenError):
                await downloader.fetch(source.url + path, tmp_path / "f")
            await downloader.fetch(f"{source.url}/%66iles/%61", tmp_path / "f")
    assert [request["path"] for request in source.requests] == ["/%66iles/%61"]
