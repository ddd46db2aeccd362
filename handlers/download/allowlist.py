"""Decides which URLs may be downloaded, by the allow-list and by the addresses of their hosts.

Source URLs come from the internet. Every URL is checked before it is requested, redirects included. The resolved
addresses are checked as well, and aiohttp connects to exactly these addresses, so no host name can lead into the
internal network. A refusal is a SourceForbiddenError whose `reason` is a `handlers.errors.DenialReason`.
"""

import logging
import socket
from dataclasses import dataclass
from typing import Final, Literal, Self

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from handlers.download.addresses import is_public, is_public_text, literal_address
from handlers.download.source_url import host_of, normalized_path, parse_source_url
from handlers.errors import DenialReason, SourceForbiddenError
from handlers.observer import Observer
from schemas.urls import redact_url

HTTPS_PORT: Final = 443

log = logging.getLogger("async_file_processor.allowlist")


@dataclass(frozen=True, slots=True)
class AllowlistEntry:
    """One entry of the allow-list: a host or an exact origin, optionally limited to the URLs below a path.

    `*.` before the host stands for all its subdomains.
    """

    host: str
    path: str
    origin: tuple[str, str, int | None] | None = None

    @classmethod
    def parse(cls, text: str, setting: str = "SOURCE_ALLOWLIST") -> Self:
        """Parse `host`, `*.host`, `host/folder/` or `scheme://host:port`; raise a ValueError that names the entry."""
        wildcard = "*." if text.startswith("*.") else ""
        try:
            url = parse_source_url(text if "://" in text else f"https://{text.removeprefix('*.')}")
        except SourceForbiddenError as error:
            raise ValueError(f"{setting}: {text!r} has no usable host: {error}") from None
        if "://" in text:
            return cls(host_of(url), normalized_path(url), _origin(url))
        address = literal_address(host_of(url))
        if url.explicit_port is not None or (address is not None and (wildcard or not is_public(address))):
            raise ValueError(f"{setting}: {text!r} must be written as an origin, such as https://{text}")
        return cls(wildcard + host_of(url), normalized_path(url))

    def matches_host(self, host: str) -> bool:
        """Return whether this entry includes the host, which is in lower case."""
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host

    def matches(self, url: URL) -> bool:
        """Return whether this entry includes the URL. Scheme and port are compared for origins only."""
        if self.origin is not None and self.origin != _origin(url):
            return False
        folder = self.path if self.path.endswith("/") else f"{self.path}/"
        return self.matches_host(host_of(url)) and f"{normalized_path(url)}/".startswith(folder)


class Allowlist:
    """The parsed SOURCE_ALLOWLIST. The constructor raises ValueError for an invalid entry.

    In mode `report`, a URL that is not on the list is allowed, logged and counted. All other rules apply. `setting` is
    the name of the setting that has the entries, for the error.
    """

    def __init__(
        self,
        entries: tuple[str, ...],
        *,
        mode: Literal["enforce", "report"] = "enforce",
        observer: Observer | None = None,
        setting: str = "SOURCE_ALLOWLIST",
    ) -> None:
        self._entries = tuple(AllowlistEntry.parse(entry, setting) for entry in entries)
        self._enforced = mode == "enforce"
        self._observer = observer or Observer()

    def check(self, text: str) -> URL:
        """Return the URL to request; raise SourceForbiddenError with the reason."""
        url, listed = self._check_rules(text, enforced=self._enforced)
        if not listed:
            log.warning("%s is not on SOURCE_ALLOWLIST and would be refused", redact_url(str(url)))
            self._observer.denied(DenialReason.NOT_ALLOWED_REPORTED)
        return url

    def contains(self, text: str) -> bool:
        """Return whether the URL is on the list and follows all other rules, in either mode."""
        try:
            self._check_rules(text, enforced=True)
        except SourceForbiddenError:
            return False
        return True

    def may_resolve(self, host: str) -> bool:
        """Return whether the host may be looked up in DNS."""
        return not self._enforced or any(entry.matches_host(host) for entry in self._entries)

    def _check_rules(self, text: str, *, enforced: bool) -> tuple[URL, bool]:
        """Return the URL and whether it is on the list. An origin on the list may have any scheme, port and address."""
        url = parse_source_url(text)
        matching = [entry for entry in self._entries if entry.matches(url)]
        if any(entry.origin is not None for entry in matching):
            return url, True
        if enforced and not matching:
            raise SourceForbiddenError(
                f"{url.scheme}://{host_of(url)}:{url.port} is not on SOURCE_ALLOWLIST (https on port 443 unless "
                "an entry names scheme, host and port)",
                reason=DenialReason.NOT_ALLOWED,
            )
        if url.scheme != "https":
            raise SourceForbiddenError("the source URL is not https", reason=DenialReason.SCHEME)
        if url.port != HTTPS_PORT:
            raise SourceForbiddenError(f"the source URL's port is not {HTTPS_PORT}", reason=DenialReason.PORT)
        address = literal_address(host_of(url))
        if address is not None and not is_public(address):
            raise SourceForbiddenError("the source URL's address is not public", reason=DenialReason.ADDRESS)
        return url, bool(matching)


class GuardedResolver(AbstractResolver):
    """Resolves a host name once and returns its addresses only if all are public. aiohttp connects to these addresses.

    aiohttp does not resolve a host that is an address already; `Allowlist.check` checks such a host. So a private
    address on the list can be reached by that origin's URLs only, not by a host name that resolves to the address.
    """

    def __init__(self, allowlist: Allowlist) -> None:
        self._allowlist = allowlist
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve `host`; raise SourceForbiddenError if it is not listed or has an address that is not public."""
        if not self._allowlist.may_resolve(host):
            raise SourceForbiddenError(f"{host} is not on SOURCE_ALLOWLIST", reason=DenialReason.NOT_ALLOWED)
        results = await self._resolver.resolve(host, port, family)
        if not all(is_public_text(result["host"]) for result in results):
            raise SourceForbiddenError(f"{host} resolves to an address that is not public", reason=DenialReason.ADDRESS)
        return results

    async def close(self) -> None:
        """Close the wrapped resolver."""
        await self._resolver.close()


def _origin(url: URL) -> tuple[str, str, int | None]:
    return url.scheme, host_of(url), url.port
