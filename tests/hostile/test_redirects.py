"""Redirects: three are followed, and each is judged as if it were the first address."""

from urllib.parse import quote

import pytest

PUBLIC = "93.184.216.34"
MINE = "http://127.0.0.1:4711"
ENTRIES = ("*.media.test", "loop.test", "fal.ai/files/", MINE)
ANSWERS = {"cdn.media.test": [[PUBLIC]], "b.media.test": [[PUBLIC]], "loop.test": [["127.0.0.1"]]}


def through(hops, last):
    """An address that leads to `last` over so many redirects."""
    for _ in range(hops):
        last = f"https://cdn.media.test/to?url={quote(last, safe='', encoding='latin-1')}"
    return last


async def visit(island, url, **options):
    return await island.visit(url, *ENTRIES, answers=ANSWERS, **options)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_three_are_followed(island, status):
    seen = await visit(island, f"{through(3, 'https://b.media.test/file')}&status={status}")
    assert (seen.content, seen.denied, len(seen.requests)) == ("what was asked for", [], 4)


@pytest.mark.parametrize(
    "url",
    [through(4, "https://b.media.test/file"), through(9, "/file"), through(1, "/loop"), "https://cdn.media.test/loop"],
    ids=["four", "nine", "a way into a loop", "a loop"],
)
async def test_the_fourth_is_not(island, url):
    seen = await visit(island, url)
    assert (seen.error, seen.denied) == ("SourceForbiddenError", ["redirects"])
    assert (len(seen.requests), seen.begun) == (4, 4)


@pytest.mark.parametrize(
    "target",
    ["/file", "file", "./file?x=1", "../../file", "?url=/file", "//b.media.test/file", "HTTPS://B.media.test:443/file"],
)
async def test_relative_ones_are_fine(island, target):
    seen = await visit(island, through(1, target))
    assert (seen.content, seen.denied) == ("what was asked for", [])
    assert seen.connections == [[PUBLIC, 443]] * seen.begun


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
async def test_each_is_judged_like_the_first(island, hops, target, reason):
    seen = await visit(island, through(hops, target))
    assert (seen.error, seen.reason, seen.denied) == ("SourceForbiddenError", reason, [reason])
    assert (seen.connections, seen.begun) == ([[PUBLIC, 443]] * hops, hops)


@pytest.mark.parametrize("target", ["https://127.0.0.1/file", "https://[::1]/file", "https://10.0.0.1/"])
async def test_addresses_are_refused_also_where_the_list_only_reports(island, target):
    seen = await visit(island, through(2, target), mode="report")
    assert (seen.denied, seen.begun) == (["address"], 2)


@pytest.mark.parametrize(
    "target", ["\xff\xfe", "/\xff", "https://loop.test/\xff", "\x01", "%", ":", "?", "#", "\\\\loop.test\\a"]
)
async def test_garbage_leads_nowhere_else(island, target):
    seen = await visit(island, through(1, target))
    assert seen.connections == [[PUBLIC, 443]] * seen.begun
    assert seen.error in {None, "SourceForbiddenError", "SourceUnavailableError"}


@pytest.mark.parametrize("url", ["https://cdn.media.test/nowhere", through(1, "https://")])
async def test_one_without_a_target_is_refused(island, url):
    seen = await visit(island, url)
    assert seen.error == "SourceForbiddenError"
    assert seen.reason in {"malformed", "redirects"}


async def test_an_origin_on_the_list_may_be_redirected_to(island):
    seen = await visit(island, through(1, f"{MINE}/file"))
    assert (seen.content, seen.connections) == ("what was asked for", [[PUBLIC, 443], ["127.0.0.1", 4711]])
