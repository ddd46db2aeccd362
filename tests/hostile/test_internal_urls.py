"""URLs that lead to internal addresses, in all known forms: refused with their reason before any connection is opened.

The Downloader is a real one in a network where every address answers (isolated_downloader.py). The allow-list is wide,
and mode `report` disables it, where a rule other than the allow-list must refuse the URL.
"""

from pathlib import Path

import pytest

LOCAL_ORIGIN = "http://127.0.0.1:4711"
WIDE_ALLOWLIST = ("*.test", "localhost", "intranet", "fal.ai/files/", LOCAL_ORIGIN)
PUBLIC = "93.184.216.34"

ANSWERS = {
    "fal.ai": [[PUBLIC]],
    "loop.test": [["127.0.0.1"]],
    "loop6.test": [["::1"]],
    "any.test": [["0.0.0.0"]],
    "any6.test": [["::"]],
    "ten.test": [["10.1.2.3"]],
    "carrier.test": [["100.100.100.200"]],
    "meta.test": [["169.254.169.254"]],
    "meta6.test": [["fd00:ec2::254"]],
    "azure.test": [["168.63.129.16"]],
    "linklocal6.test": [["fe80::1"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "compatible.test": [["::127.0.0.1"]],
    "nat64.test": [["64:ff9b::7f00:1"]],
    "nat64own.test": [["64:ff9b:1::7f00:1"]],
    "tunnel.test": [["2002:7f00:1::1"]],
    "teredo.test": [["2001:0:4136:e378:8000:63bf:80ff:fffe"]],
    "isatap.test": [["2606:4700::5efe:7f00:1"]],
    "multicast.test": [["224.0.0.1"]],
    "alias.test": [["hop.test"]],
    "hop.test": [["loop.test"]],
    "mixed.test": [[PUBLIC, "127.0.0.1"]],
    "mixed6.test": [[PUBLIC, "2606:2800:220:1::34", "::1"]],
    "xn--bcher-kva.test": [["127.0.0.1"]],
    "intranet": [["192.168.1.1"]],
    "fal.media": [["127.0.0.1"]],
}

SPECIAL_CHARACTERS = {
    "malformed": [
        "https://loop\t.test/",
        "https://loop.test\r\nHost: x/",
        "https://loop.test:443 /",
        "https://loop.test\N{ZERO WIDTH SPACE}/",
        "https://fal.media\0.loop.test/",
        "https://loop.test/\ud800",
        f"https://{'a' * 64}.test/",
        f"https://{'a.' * 127}test/",
    ],
    "scheme": [" https://loop.test/", "\thttps://loop.test/", "ht\ntps://loop.test/", ""],
}


def load_cases():
    """Yield (reason, mode of the allow-list, URL)."""
    heading = ""
    for line in (Path(__file__).parent / "internal_urls.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            heading = line[3:]
        elif not line.startswith("# "):
            yield from (case(heading, word) for word in line.split())
    for reason, urls in SPECIAL_CHARACTERS.items():
        yield from ((reason, "report", url) for url in urls)


def case(heading, word):
    if heading.startswith("hosts"):
        return "address", "report" if heading.endswith("addresses") else "enforce", f"https://{word}/file"
    return heading, "enforce" if heading == "not_allowed" else "report", word


CASES = list(load_cases())


@pytest.mark.parametrize(("reason", "mode", "url"), CASES, ids=[ascii(url) for _, _, url in CASES])
async def test_an_internal_url_is_refused_with_its_reason_before_any_connection(isolated_downloader, reason, mode, url):
    result = await isolated_downloader.fetch(url, *WIDE_ALLOWLIST, mode=mode, answers=ANSWERS)
    assert (result.error, result.reason, result.denied) == ("SourceForbiddenError", reason, [reason])
    assert (result.attempts, result.connections) == (0, [])


@pytest.mark.parametrize(
    ("url", "connection"),
    [
        (f"{LOCAL_ORIGIN}/file", ["127.0.0.1", 4711]),
        ("http://\uff11\uff12\uff17\u30020.0.1:4711/file", ["127.0.0.1", 4711]),
        ("https://cdn.media.test/file", [PUBLIC, 443]),
        ("https://CDN.media.test:443/a/../file?x=..#y", [PUBLIC, 443]),
        ("https://cdn.media.test:/file", [PUBLIC, 443]),
        ("https://\uff43dn\u3002media\u3002test/file;v=1", [PUBLIC, 443]),
    ],
)
async def test_allowed_urls_are_fetched_in_the_same_network(isolated_downloader, url, connection):
    result = await isolated_downloader.fetch(url, *WIDE_ALLOWLIST, answers={"cdn.media.test": [[PUBLIC]]})
    assert (result.content, result.connections, result.attempts) == ("the content", [connection], 1)
    assert result.denied == []


async def test_report_mode_fetches_unlisted_urls_and_counts_them(isolated_downloader):
    answers = {"cdn.media.test": [[PUBLIC]]}
    result = await isolated_downloader.fetch("https://cdn.media.test/file", "fal.media", mode="report", answers=answers)
    assert (result.content, result.denied) == ("the content", ["not_allowed_reported"])
    result = await isolated_downloader.fetch("https://cdn.media.test/file", "fal.media", answers=answers)
    assert (result.reason, result.attempts, result.queries) == ("not_allowed", 0, [])
