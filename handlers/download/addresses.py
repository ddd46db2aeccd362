"""Decides whether an IP address is public, and parses IP addresses in URLs.

The rules come from IANA's special-purpose registries (https://www.iana.org/assignments/iana-ipv4-special-registry and
iana-ipv6-special-registry). They are listed here because Python's `is_global` differs between versions.
"""

import ipaddress
import re
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NON_PUBLIC_IPV4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host; Linux connects 0.0.0.0 to loopback
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform services: a public address that every Azure network routes internally
        "169.254.0.0/16",  # link-local, metadata services of cloud providers
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""The IPv6 addresses that are routed on the internet; not the mapped, translated, local and multicast ones."""
NON_PUBLIC_IPV6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocols, including Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""The prefix for IPv4 addresses in networks that have IPv6 only (RFC 6052). Such networks reach FAL through it.

The prefix 64:ff9b:1::/48 (RFC 8215) is not public: each network chooses where the IPv4 address is in it, so the address
cannot be checked.
"""
ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)
"""The third quarter of an IPv6 address whose last quarter is an IPv4 address (RFC 5214, 6.1)."""

# Browsers and getaddrinfo read a host whose last label is a number as an IPv4 address (WHATWG URL, "ends in a number").
_ENDS_IN_A_NUMBER: Final = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.*$")


def is_public(address: Address) -> bool:
    """Return whether the address, and the IPv4 address that it may contain, is a public unicast address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in NON_PUBLIC_IPV4)
    embedded = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.scope_id is None and address in NAT64:
        return is_public(embedded)
    if (
        address.scope_id is not None
        or address not in GLOBAL_UNICAST
        or any(address in network for network in NON_PUBLIC_IPV6)
    ):
        return False
    return (int(address) >> 32) & 0xFFFF_FFFF not in ISATAP or is_public(embedded)


def is_public_text(text: str) -> bool:
    """Return `is_public` of an address in text form; False when the text is not an address."""
    try:
        return is_public(ipaddress.ip_address(text))
    except ValueError:
        return False


def literal_address(host: str) -> Address | None:
    """Return the IP address of a URL's host (in lower case, without brackets); None when the host is a name.

    Raises ValueError for an invalid IPv6 address, and for an IPv4 address in any form but the usual one (`2130706433`,
    `0x7f.1`, `0177.0.0.1`, `127.1`, `127.0.0.1.`): programs read these forms differently.
    """
    if ":" not in host and not _ENDS_IN_A_NUMBER.search(host):
        return None
    return ipaddress.ip_address(host)
