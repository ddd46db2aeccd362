"""Routes all IP addresses of a network namespace to loopback, over netlink, without the program `ip`.

The test's own listeners then answer every connection, so no connection goes unnoticed.
"""

import contextlib
import socket
import struct
from ipaddress import ip_address
from itertools import count
from pathlib import Path

LOOPBACK = 1
NEWLINK, NEWADDR, NEWROUTE = 16, 20, 24
REQUEST_ACK, CREATE, NO_DUPLICATE_CHECK = 0x5, 0x400, 0x2
LOCAL_TABLE, BOOT, HOST_SCOPE, LOCAL_ROUTE = 255, 3, 254, 2
SEQUENCE_NUMBERS = count(1)


def route_everything_to_loopback(*own: str) -> None:
    """Bring loopback up, assign it the addresses `own`, and route all others to it."""
    _request(NEWLINK, struct.pack("=BBHiII", socket.AF_UNSPEC, 0, 0, LOOPBACK, 1, 1))
    for text in own:
        address = ip_address(text)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        head = struct.pack("=BBBBI", family, address.max_prefixlen, NO_DUPLICATE_CHECK, 0, LOOPBACK)
        with _ignore_missing_ipv6(family):
            _request(NEWADDR, head + _attribute(2, address.packed) + _attribute(1, address.packed))
    for family in (socket.AF_INET, socket.AF_INET6):
        head = struct.pack("=BBBBBBBBI", family, 0, 0, 0, LOCAL_TABLE, BOOT, HOST_SCOPE, LOCAL_ROUTE, 0)
        with _ignore_missing_ipv6(family):
            _request(NEWROUTE, head + _attribute(4, struct.pack("=i", LOOPBACK)))


def count_connection_attempts() -> int:
    """Return the number of TCP connections that processes in this namespace tried to open, successful or not."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line[:4] == "Tcp:")
    return int(values[names.index("ActiveOpens")])


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value.ljust(-(-len(value) // 4) * 4, b"\0")


def _request(kind: int, body: bytes) -> None:
    """Send one request to the kernel's routing socket; raise OSError if it is refused."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST_ACK | CREATE, next(SEQUENCE_NUMBERS), 0) + body)
        (error,) = struct.unpack_from("=i", kernel.recv(4096), 16)
    if error:
        raise OSError(-error, f"netlink request {kind} was refused")


@contextlib.contextmanager
def _ignore_missing_ipv6(family: int):
    try:
        yield
    except OSError:
        if family != socket.AF_INET6:
            raise
