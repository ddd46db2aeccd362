"""Names that answer otherwise when they are asked again: asked once, judged, and connected to as judged."""

from pathlib import Path

import pytest

PUBLIC, PUBLIC6 = "93.184.216.34", "2606:2800:220:1::34"
URL = "https://turn.media.test/file"
ASKED_ONCE = [["turn.media.test", "A"], ["turn.media.test", "AAAA"]]


async def test_the_address_that_was_checked_is_the_one_connected_to(island):
    seen = await island.visit(URL, "*.media.test", answers={"turn.media.test": [[PUBLIC], ["127.0.0.1"]]})
    assert (seen.content, seen.denied) == ("what was asked for", [])
    assert (seen.connections, seen.begun, seen.questions) == ([[PUBLIC, 443]], 1, ASKED_ONCE)


async def test_the_next_lookup_is_judged_anew(island):
    await island.visit(URL, "*.media.test", answers={"turn.media.test": [[PUBLIC], ["127.0.0.1"]]})
    seen = await island.visit(URL, "*.media.test", again=True)
    assert (seen.reason, seen.denied, seen.begun) == ("address", ["address"], 0)
    assert seen.questions == ASKED_ONCE * 2


async def test_a_redirect_back_to_the_name_does_not_ask_again(island):
    answers = {"turn.media.test": [[PUBLIC], ["127.0.0.1"]]}
    seen = await island.visit("https://turn.media.test/to?url=/file", "*.media.test", answers=answers)
    assert (seen.content, seen.questions) == ("what was asked for", ASKED_ONCE)
    assert seen.connections == [[PUBLIC, 443]] * 2


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
async def test_one_address_inside_spoils_them_all(island, addresses):
    seen = await island.visit(URL, "*.media.test", answers={"turn.media.test": [addresses]})
    assert (seen.reason, seen.denied, seen.begun) == ("address", ["address"], 0)


async def test_an_origin_opens_its_address_to_no_name(island):
    answers = {"turn.media.test": [["127.0.0.1"]]}
    entries = ("http://127.0.0.1:4711", "https://127.0.0.1:443", "https://turn.media.test:4711", "*.media.test")
    for url in (URL, "https://turn.media.test:4711/file"):
        seen = await island.visit(url, *entries, answers=answers)
        assert (seen.reason, seen.begun) == ("address", 0)


async def test_a_certificate_for_another_name_is_not_accepted(island):
    seen = await island.visit("https://elsewhere.test/file", "*.test", answers={"elsewhere.test": [[PUBLIC]]})
    assert (seen.error, seen.requests) == ("SourceUnavailableError", [])
    assert seen.connections == [[PUBLIC, 443]]
    assert "CertificateError" in seen.text


async def test_a_name_that_is_not_there_may_be_there_later(island):
    seen = await island.visit("https://gone.media.test/file", "*.media.test")
    assert (seen.error, seen.begun) == ("SourceUnavailableError", 0)


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this kernel has no IPv6")
@pytest.mark.parametrize("address", [PUBLIC6, "64:ff9b::5db8:d822"], ids=["plain", "NAT64"])
async def test_public_addresses_are_reached_where_there_is_only_ipv6(island, address):
    seen = await island.visit(URL, "*.media.test", answers={"turn.media.test": [[address]]})
    assert (seen.content, seen.connections) == ("what was asked for", [[address, 443]])
