"""Where files may be fetched from: the allow-list, and the addresses that are never connected to.

Source URLs come from the internet. A URL is checked before every request, redirects included, and the address the
name resolves to is checked and is the very one connected to, so that no name can point inside the network.
"""

import ipaddress
import socket
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from handlers.errors import SourceForbiddenError

NAT64: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the allow-list: an exact origin, or an https host with an optional path prefix."""

    host: str
    path: str = "/"
    origin: URL | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host`, `*.host`, `host/prefix/` or `scheme://host:port`; raise ValueError that names the entry."""
        if "://" in text:
            url = URL(text)
            if not url.host or url.scheme not in {"http", "https"}:
                raise ValueError(f"SOURCE_ALLOWLIST: {text!r} is no http or https origin")
            return cls(host=url.host, path=url.path, origin=url.origin())
        host, _, path = text.partition("/")
        if not host.removeprefix("*.") or "*" in host.removeprefix("*."):
            raise ValueError(
                f"SOURCE_ALLOWLIST: {text!r} has no usable host; a `*` may only stand first, as in *.fal.media"
            )
        return cls(host=host.lower(), path=f"/{path}")

    def permits(self, url: URL) -> bool:
        """Whether this entry lets the URL through."""
        if not url.path.startswith(self.path):
            return False
        if self.origin is not None:
            return url.origin() == self.origin
        host = (url.host or "").lower()
        named = host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host
        return named and url.scheme == "https" and url.port == HTTPS_PORT


class Allowlist:
    """The list as a whole. Build it at start: a wrong entry raises ValueError there, not at the first file."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._entries = tuple(Entry.parse(entry) for entry in entries)
        self._literal = {entry.host for entry in self._entries if _address(entry.host) is not None}

    def check(self, text: str) -> URL:
        """Return the parsed URL, or raise SourceForbiddenError with the reason."""
        try:
            url = URL(text)
            url.port  # noqa: B018 - parsed on access
        except ValueError as error:
            raise SourceForbiddenError(f"the source URL cannot be read: {error}", reason="malformed") from None
        if not url.host or url.scheme not in {"http", "https"}:
            raise SourceForbiddenError("the source URL is neither http nor https", reason="scheme")
        if url.user is not None or url.password is not None:
            raise SourceForbiddenError("the source URL carries a user name", reason="userinfo")
        if _climbs(url.raw_path):
            raise SourceForbiddenError("the source URL's path climbs", reason="path")
        if not any(entry.permits(url) for entry in self._entries):
            raise SourceForbiddenError(
                f"{url.scheme}://{url.host}:{url.port} is not on SOURCE_ALLOWLIST (https on port 443 unless an entry "
                "names scheme, host and port)",
                reason="not_allowed",
            )
        return url

    def lists(self, text: str) -> bool:
        """Whether the URL would be let through."""
        try:
            self.check(text)
        except SourceForbiddenError:
            return False
        return True

    def check_address(self, address: str) -> None:
        """Raise SourceForbiddenError unless the address is public, or named literally on the list."""
        parsed = _address(address.partition("%")[0])
        if address in self._literal:
            return
        if parsed is None or not _public(parsed):
            raise SourceForbiddenError("the source's name resolves to an address that is not public", reason="address")


class GuardedResolver(AbstractResolver):
    """Resolves names once and hands on only addresses that passed; aiohttp connects to exactly these."""

    def __init__(self, allowlist: Allowlist) -> None:
        self._allowlist = allowlist
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve `host`; raise SourceForbiddenError when any of its addresses is not public."""
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            self._allowlist.check_address(result["host"])
        return results

    async def close(self) -> None:
        """Close the resolver underneath."""
        await self._resolver.close()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _climbs(raw_path: str) -> bool:
    """Whether a path, decoded as often as a careless server might, leaves its folder."""
    path = unquote(unquote(raw_path)).replace("\\", "/")
    return ".." in path.split("/")


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address, and the IPv4 address it may wrap, is on the public internet and a single host's."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in NAT64):
        wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return all(inner is None or _public(inner) for inner in wrapped)
