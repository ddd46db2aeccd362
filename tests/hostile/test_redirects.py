"""Redirects: three are followed, and each target is checked like the first URL."""

from urllib.parse import quote

import pytest

PUBLIC = "93.184.216.34"
LOCAL_ORIGIN = "http://127.0.0.1:4711"
ALLOWLIST = ("*.media.test", "loop.test", "fal.ai/files/", LOCAL_ORIGIN)
DNS_ANSWERS = {"cdn.media.test": [[PUBLIC]], "b.media.test": [[PUBLIC]], "loop.test": [["127.0.0.1"]]}


def redirecting(hops, last):
    """Return a URL that redirects to `last` in `hops` steps."""
    for _ in range(hops):
        last = f"https://cdn.media.test/to?url={quote(last, safe='', encoding='latin-1')}"
    return last


async def fetch(isolated_downloader, url, **options):
    return await isolated_downloader.fetch(url, *ALLOWLIST, answers=DNS_ANSWERS, **options)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_three_redirects_are_followed(isolated_downloader, status):
    result = await fetch(isolated_downloader, f"{redirecting(3, 'https://b.media.test/file')}&status={status}")
    assert (result.content, result.denied, len(result.requests)) == ("the content", [], 4)


@pytest.mark.parametrize(
    "url",
    [
        redirecting(4, "https://b.media.test/file"),
        redirecting(9, "/file"),
        redirecting(1, "/loop"),
        "https://cdn.media.test/loop",
    ],
    ids=["four", "nine", "into a loop", "a loop"],
)
async def test_a_fourth_redirect_is_refused(isolated_downloader, url):
    result = await fetch(isolated_downloader, url)
    assert (result.error, result.denied) == ("SourceForbiddenError", ["redirects"])
    assert (len(result.requests), result.attempts) == (4, 4)


@pytest.mark.parametrize(
    "target",
    ["/file", "file", "./file?x=1", "../../file", "?url=/file", "//b.media.test/file", "HTTPS://B.media.test:443/file"],
)
async def test_relative_redirects_are_followed(isolated_downloader, target):
    result = await fetch(isolated_downloader, redirecting(1, target))
    assert (result.content, result.denied) == ("the content", [])
    assert result.connections == [[PUBLIC, 443]] * result.attempts


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("https://127.0.0.1/file", "not_allowed"),
        ("https://169.254.169.254/latest/meta-data/", "not_allowed"),
        ("https://[::ffff:127.0.0.1]/file", "not_allowed"),
        ("//127.0.0.1/file", "not_allowed"),
        ("http://127.0.0.1:4712/file", "not_allowed"),
        ("http://localhost:4711/file", "not_allowed"),
        ("https://elsewhere.example/file", "not_allowed"),
        ("https://fal.ai/files/../admin", "not_allowed"),
        ("https://2130706433/file", "address"),
        ("//127.1/file", "address"),
        ("https://loop.test/file", "address"),
        ("//loop.test/file", "address"),
        ("http://loop.test:4711/file", "scheme"),
        ("http://cdn.media.test/file", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("data:text/plain,inside", "scheme"),
        ("https://cdn.media.test@127.0.0.1/file", "userinfo"),
        ("https://user:password@b.media.test/file", "userinfo"),
        ("https://b.media.test:8443/file", "port"),
        ("/files/..%2f..%2fadmin", "path"),
        ("https://fal.ai/files/%252e%252e/admin", "path"),
        ("https://b.media.test./file", "malformed"),
        ("https://[::1", "malformed"),
        ("https://[::1%25lo]/file", "malformed"),
        ("https://%6coop.test/file", "malformed"),
        ("https://b.media.test:port/file", "malformed"),
        ("https://b.media.test\\@loop.test/file", "malformed"),
    ],
)
async def test_a_redirect_to_a_forbidden_url_is_refused_with_its_reason(isolated_downloader, hops, target, reason):
    result = await fetch(isolated_downloader, redirecting(hops, target))
    assert (result.error, result.reason, result.denied) == ("SourceForbiddenError", reason, [reason])
    assert (result.connections, result.attempts) == ([[PUBLIC, 443]] * hops, hops)


@pytest.mark.parametrize("target", ["https://127.0.0.1/file", "https://[::1]/file", "https://10.0.0.1/"])
async def test_redirects_to_internal_addresses_are_refused_in_report_mode(isolated_downloader, target):
    result = await fetch(isolated_downloader, redirecting(2, target), mode="report")
    assert (result.denied, result.attempts) == (["address"], 2)


@pytest.mark.parametrize(
    "target", ["\xff\xfe", "/\xff", "https://loop.test/\xff", "\x01", "%", ":", "?", "#", "\\\\loop.test\\a"]
)
async def test_an_unreadable_redirect_target_causes_no_other_connection(isolated_downloader, target):
    result = await fetch(isolated_downloader, redirecting(1, target))
    assert result.connections == [[PUBLIC, 443]] * result.attempts
    assert result.error in {None, "SourceForbiddenError", "SourceUnavailableError"}


@pytest.mark.parametrize("url", ["https://cdn.media.test/nowhere", redirecting(1, "https://")])
async def test_a_redirect_without_a_target_is_refused(isolated_downloader, url):
    result = await fetch(isolated_downloader, url)
    assert result.error == "SourceForbiddenError"
    assert result.reason in {"malformed", "redirects"}


async def test_a_redirect_to_an_allowed_origin_is_followed(isolated_downloader):
    result = await fetch(isolated_downloader, redirecting(1, f"{LOCAL_ORIGIN}/file"))
    assert (result.content, result.connections) == ("the content", [[PUBLIC, 443], ["127.0.0.1", 4711]])
