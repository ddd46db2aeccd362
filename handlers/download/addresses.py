"""Which addresses are never connected to, and how a URL may spell one.

The rules come from IANA's special-purpose registries (https://www.iana.org/assignments/iana-ipv4-special-registry and
iana-ipv6-special-registry). They are written out here, since what Python's `is_global` says differs between versions.
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
        "168.63.129.16/32",  # Azure's platform address: public by number, inside every Azure network
        "169.254.0.0/16",  # link-local, the clouds' metadata
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
"""The only part of IPv6 that the internet routes; mapped, compatible, translated, local and multicast lie outside."""
NON_PUBLIC_IPV6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocols of the IETF, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""What a network without IPv4 calls an IPv4 address (RFC 6052). It must work: on such networks FAL is reached so.

64:ff9b:1::/48 (RFC 8215) is not: each network places the IPv4 address in it as it likes, so that nobody else can tell
which address is meant.
"""
ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)

# A host whose last label is a number is an IPv4 address to browsers and getaddrinfo (WHATWG URL, "ends in a number").
_ENDS_IN_A_NUMBER: Final = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.*$")


def is_public(address: Address) -> bool:
    """Whether the address, and the IPv4 address it may carry, is one host's on the public internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in NON_PUBLIC_IPV4)
    carried = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.scope_id is None and address in NAT64:
        return is_public(carried)
    if (
        address.scope_id is not None
        or address not in GLOBAL_UNICAST
        or any(address in network for network in NON_PUBLIC_IPV6)
    ):
        return False
    return (int(address) >> 32) & 0xFFFF_FFFF not in ISATAP or is_public(carried)


def is_public_text(text: str) -> bool:
    """As `is_public`, of an address as the resolver writes it. What is no address is not public."""
    try:
        return is_public(ipaddress.ip_address(text))
    except ValueError:
        return False


def literal_address(host: str) -> Address | None:
    """Return the address that a URL's host (without brackets, in lower case) spells out; None when it is a name.

    Raises ValueError for every spelling of an IPv4 address but the plain one (`2130706433`, `0x7f.1`, `0177.0.0.1`,
    `127.1`, `127.0.0.1.`): programs differ in what they make of it, and no source of files needs it.
    """
    if ":" not in host and not _ENDS_IN_A_NUMBER.search(host):
        return None
    return ipaddress.ip_address(host)
