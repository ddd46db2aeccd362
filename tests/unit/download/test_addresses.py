"""Non-public addresses are refused in every notation, also in comparison with Python's and libc's parsers."""

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from handlers.download.addresses import NON_PUBLIC_IPV4, is_public, is_public_text, literal_address
from handlers.download.allowlist import Allowlist
from handlers.errors import SourceForbiddenError

pytestmark = pytest.mark.slow

EMPTY_ALLOWLIST = Allowlist((), mode="report")
FULL_WIDTH = {ord(plain): chr(0xFF10 + int(plain)) for plain in "0123456789"}

without_deadline = settings(deadline=None)  # examples are slow on a busy machine
non_public_addresses = st.sampled_from(NON_PUBLIC_IPV4).flatmap(lambda network: st.ip_addresses(v=4, network=network))


def notations(address):
    """Yield the address in all known notations except dotted decimal."""
    a, b, c, d = address.packed
    number = int(address)
    yield from (f"{number}", f"{number:#x}", f"0{number:o}", f"{number:#X}", f"{address}.", f"{address}..")
    yield from (f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{c << 8 | d}", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}")
    yield from (f"0{a:o}.{b}.{c}.{d}", f"{a}.{b}.{c}.{d:#x}", f"00{a}.{b}.{c}.{d}", f"{a:#x}.{number & 0xFFFFFF}")


def other_scripts(address):
    """Yield dotted decimal in other scripts, which UTS 46 maps to the same address."""
    yield str(address).translate(FULL_WIDTH)
    yield from (str(address).replace(".", dot) for dot in "\u3002\uff0e\uff61")


def embeddings(address):
    """Yield the IPv6 addresses that contain the IPv4 address."""
    number = int(address)
    high, low = number >> 16, number & 0xFFFF
    inverted = number ^ 0xFFFFFFFF
    yield from (f"::ffff:{address}", f"::ffff:{high:x}:{low:x}", f"::{address}", f"::ffff:0:{address}")
    yield from (f"64:ff9b::{address}", f"64:ff9b::{high:x}:{low:x}")
    yield from (f"64:ff9b:1::{address}", f"64:ff9b:1:{high:x}:{low >> 8:x}:{(low & 0xFF) << 8:x}::")
    yield IPv6Address((0x64FF9B0001 << 80) | (number >> 24 << 64) | (number & 0xFFFFFF) << 32).exploded
    yield IPv6Address((0x64FF9B0001 << 80) | number << 24).exploded
    yield from (f"2002:{high:x}:{low:x}::1", f"2001:0:{high:x}:{low:x}::")
    yield f"2001:0:4136:e378:8000:63bf:{inverted >> 16:x}:{inverted & 0xFFFF:x}"
    yield from (f"{prefix}:{bit}5efe:{address}" for prefix in ("2606:4700:0:1", "fe80::") for bit in ("", "200:"))


def refusal_reason(host):
    with pytest.raises(SourceForbiddenError) as error:
        EMPTY_ALLOWLIST.check(f"https://{host}/file")
    return error.value.reason


@without_deadline
@given(non_public_addresses)
def test_a_non_public_address_is_refused_in_every_notation(address):
    for host in (str(address), *notations(address), *other_scripts(address)):
        assert refusal_reason(host) == "address", host


@without_deadline
@given(non_public_addresses)
def test_a_non_public_address_is_refused_when_embedded_in_ipv6(address):
    for text in embeddings(address):
        assert not is_public_text(text), text
        assert refusal_reason(f"[{text}]") == "address", text


@without_deadline
@given(st.ip_addresses(v=4))
def test_a_public_address_is_accepted_in_dotted_decimal_only(address):
    assume(is_public(address))
    assert EMPTY_ALLOWLIST.check(f"https://{address}/file").host == str(address)
    assert is_public_text(f"64:ff9b::{address}"), "NAT64, used by networks without IPv4 (RFC 6052)"
    for host in notations(address):
        assert refusal_reason(host) == "address", host


@without_deadline
@given(st.ip_addresses())
def test_an_address_that_python_calls_private_is_not_public(address):
    assume(int(address) >> 32 != 0x64FF9B << 64)  # NAT64, which Python calls reserved
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(address)


@without_deadline
@given(st.from_regex(r"(0x[0-9a-fA-F]{1,8}|0?[0-9]{1,10})(\.(0x[0-9a-f]{1,6}|0?[0-9]{1,8})){0,3}\.?", fullmatch=True))
def test_a_host_that_libc_reads_as_an_address_is_not_a_name(host):
    try:
        packed = socket.inet_aton(host)
    except OSError:
        return
    try:
        address = literal_address(host.lower())
    except ValueError:
        return
    assert address == IPv4Address(packed)


IPV6_ADDRESSES = {
    "::ffff:10.0.0.1": False,
    "::ffff:a00:1": False,
    "0:0:0:0:0:ffff:0a00:0001": False,
    "::ffff:93.184.216.34": False,  # mapped: DNS never returns it
    "::ffff:0:10.0.0.1": False,  # translated (RFC 2765)
    "::10.0.0.1": False,  # compatible
    "::93.184.216.34": False,
    "64:ff9b::10.0.0.1": False,
    "64:ff9b::a00:1": False,
    "64:ff9b::93.184.216.34": True,
    "64:ff9b::5db8:d822": True,
    "64:ff9b:1::93.184.216.34": False,
    "2002:a00:1::1": False,  # 6to4
    "2002:5db8:d822::1": False,
    "2001:0:4136:e378:8000:63bf:f5ff:fffe": False,  # Teredo of 10.0.0.1
    "2606:4700::5efe:10.0.0.1": False,  # ISATAP
    "2606:4700::200:5efe:93.184.216.34": True,
    "fe80::1": False,
    "fe80::1%lo": False,
    "fe80::1%1": False,
    "2606:4700::1111": True,
    "2606:4700::1111%1": False,
    "::ffff:93.184.216.34%1": False,
}


@pytest.mark.parametrize(("text", "public"), IPV6_ADDRESSES.items())
def test_an_ipv6_address_is_public_or_not_in_every_notation(text, public):
    assert is_public_text(text) is public


@pytest.mark.parametrize(("text", "public"), [pair for pair in IPV6_ADDRESSES.items() if "%" not in pair[0]])
def test_the_result_is_the_same_after_libc_and_python_rewrite_the_address(text, public):
    """The resolver returns addresses as libc writes them; Python 3.13 changed its notation of mapped addresses."""
    packed = socket.inet_pton(socket.AF_INET6, text)
    notations = {socket.inet_ntop(socket.AF_INET6, packed), str(IPv6Address(packed)), IPv6Address(packed).exploded}
    assert {is_public_text(notation) for notation in notations} == {public}


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "0.0.0.0",
        "168.63.129.16",
        "::",
        "::1",
        "fe80::1%eth0",
        "2606:4700::1%lo",
        "fd00::1",
        "ff02::1",
        "",
        "x",
    ],
)
def test_a_non_public_address_is_not_public(text):
    assert not is_public_text(text)


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111"])
def test_a_public_address_is_public(text):
    assert is_public_text(text)


@pytest.mark.parametrize("host", ["fal.media", "1e100.net", "0x7f.test", "127.0.0.1.nip.io", "a0x7f", "3com"])
def test_a_host_name_is_not_an_address(host):
    assert literal_address(host) is None
