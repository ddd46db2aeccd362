"""DNS rebinding: a name is resolved once, and the connection goes to the addresses that were checked."""

from pathlib import Path

import pytest

PUBLIC, PUBLIC6 = "93.184.216.34", "2606:2800:220:1::34"
URL = "https://turn.media.test/file"
RESOLVED_ONCE = [["turn.media.test", "A"], ["turn.media.test", "AAAA"]]


async def test_the_address_that_was_checked_is_the_one_connected_to(isolated_downloader):
    result = await isolated_downloader.fetch(
        URL, "*.media.test", answers={"turn.media.test": [[PUBLIC], ["127.0.0.1"]]}
    )
    assert (result.content, result.denied) == ("the content", [])
    assert (result.connections, result.attempts, result.queries) == ([[PUBLIC, 443]], 1, RESOLVED_ONCE)


async def test_the_next_download_resolves_and_checks_the_name_again(isolated_downloader):
    await isolated_downloader.fetch(URL, "*.media.test", answers={"turn.media.test": [[PUBLIC], ["127.0.0.1"]]})
    result = await isolated_downloader.fetch(URL, "*.media.test", again=True)
    assert (result.reason, result.denied, result.attempts) == ("address", ["address"], 0)
    assert result.queries == RESOLVED_ONCE * 2


async def test_a_redirect_to_the_same_name_does_not_resolve_it_again(isolated_downloader):
    answers = {"turn.media.test": [[PUBLIC], ["127.0.0.1"]]}
    result = await isolated_downloader.fetch("https://turn.media.test/to?url=/file", "*.media.test", answers=answers)
    assert (result.content, result.queries) == ("the content", RESOLVED_ONCE)
    assert result.connections == [[PUBLIC, 443]] * 2


@pytest.mark.parametrize(
    "addresses",
    [
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [PUBLIC, "93.184.216.35", "10.0.0.1"],
        [PUBLIC, "::1"],
        [PUBLIC6, "127.0.0.1"],
        [PUBLIC6, PUBLIC, "::ffff:10.0.0.1"],
        [PUBLIC6, "fe80::1"],
    ],
    ids=" ".join,
)
async def test_one_internal_address_among_those_resolved_refuses_the_name(isolated_downloader, addresses):
    result = await isolated_downloader.fetch(URL, "*.media.test", answers={"turn.media.test": [addresses]})
    assert (result.reason, result.denied, result.attempts) == ("address", ["address"], 0)


async def test_an_allowed_ip_origin_does_not_allow_names_that_resolve_to_it(isolated_downloader):
    answers = {"turn.media.test": [["127.0.0.1"]]}
    entries = ("http://127.0.0.1:4711", "https://127.0.0.1:443", "https://turn.media.test:4711", "*.media.test")
    for url in (URL, "https://turn.media.test:4711/file"):
        result = await isolated_downloader.fetch(url, *entries, answers=answers)
        assert (result.reason, result.attempts) == ("address", 0)


async def test_a_certificate_for_another_name_is_refused(isolated_downloader):
    result = await isolated_downloader.fetch(
        "https://elsewhere.test/file", "*.test", answers={"elsewhere.test": [[PUBLIC]]}
    )
    assert (result.error, result.requests) == ("SourceUnavailableError", [])
    assert result.connections == [[PUBLIC, 443]]
    assert "CertificateError" in result.text


async def test_an_unknown_name_is_source_unavailable(isolated_downloader):
    result = await isolated_downloader.fetch("https://gone.media.test/file", "*.media.test")
    assert (result.error, result.attempts) == ("SourceUnavailableError", 0)


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this kernel has no IPv6")
@pytest.mark.parametrize("address", [PUBLIC6, "64:ff9b::5db8:d822"], ids=["plain", "NAT64"])
async def test_public_ipv6_addresses_are_connected_to(isolated_downloader, address):
    result = await isolated_downloader.fetch(URL, "*.media.test", answers={"turn.media.test": [[address]]})
    assert (result.content, result.connections) == ("the content", [[address, 443]])
