"""The address of a client, also behind reverse proxies."""

from ipaddress import ip_address
from typing import Final

from aiohttp import web

FORWARDED_FOR: Final = "X-Forwarded-For"


def client_address(request: web.Request, trusted_proxies: int) -> str:
    """Return the address from which the outermost of our proxies was called.

    Each of `trusted_proxies` proxies appends the address of its caller to X-Forwarded-For. All entries before these
    come from the client. Returns the peer's address if the header is too short or not an address.
    """
    peer = request.remote or ""
    if trusted_proxies < 1:
        return peer
    addresses = ",".join(request.headers.getall(FORWARDED_FOR, [])).split(",")
    try:
        return str(ip_address(addresses[-trusted_proxies].strip()))
    except (IndexError, ValueError):
        return peer
