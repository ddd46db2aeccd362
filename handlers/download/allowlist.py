"""Where files may be fetched from: the allow-list, and the addresses that are never connected to.

Source URLs come from the internet. A URL is checked before every request, redirects included, and the address the
name resolves to is checked and is the very one connected to, so that no name can point inside the network. A refusal
is a SourceForbiddenError with one of the reasons in `handlers.errors.DenialReason`.
"""

import logging
import socket
from dataclasses import dataclass
from typing import Final, Literal, Self

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from handlers.download.addresses import is_public, is_public_text, literal_address
from handlers.download.source_url import host_of, parse_source_url
from handlers.errors import DenialReason, SourceForbiddenError
from handlers.observer import Observer
from schemas.urls import redact_url

HTTPS_PORT: Final = 443

log = logging.getLogger("async_file_processor.netguard")


@dataclass(frozen=True, slots=True)
class AllowlistEntry:
    """One line of the allow-list: an exact origin, or a host (`*.` before it: its subdomains), both with a folder."""

    host: str
    path: str
    origin: tuple[str, str, int | None] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host`, `*.host`, `host/folder/` or `scheme://host:port`; raise ValueError that names the entry."""
        wild = "*." if text.startswith("*.") else ""
        try:
            url = parse_source_url(text if "://" in text else f"https://{text.removeprefix('*.')}")
        except SourceForbiddenError as error:
            raise ValueError(f"SOURCE_ALLOWLIST: {text!r} has no usable host: {error}") from None
        if "://" in text:
            return cls(host_of(url), url.raw_path, _origin(url))
        address = literal_address(host_of(url))
        if url.explicit_port is not None or (address is not None and (wild or not is_public(address))):
            raise ValueError(f"SOURCE_ALLOWLIST: {text!r} has to be an origin, such as https://{text}")
        return cls(wild + host_of(url), url.raw_path)

    def names(self, host: str) -> bool:
        """Whether this entry is about the host, which is in lower case."""
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host

    def matches(self, url: URL) -> bool:
        """Whether the URL lies under this entry; of one that is no origin, scheme and port are the list's business."""
        if self.origin is not None and self.origin != _origin(url):
            return False
        folder = self.path if self.path.endswith("/") else f"{self.path}/"
        return self.matches_host(host_of(url)) and f"{url.raw_path}/".startswith(folder)


class Allowlist:
    """The list as a whole. Build it at start: a wrong entry raises ValueError there, not at the first file.

    In mode `report` the list itself refuses nothing: what it would refuse is logged, and told to the observer.
    """

    def __init__(
        self,
        entries: tuple[str, ...],
        *,
        mode: Literal["enforce", "report"] = "enforce",
        observer: Observer | None = None,
    ) -> None:
        self._entries = tuple(AllowlistEntry.parse(entry) for entry in entries)
        self._enforced = mode == "enforce"
        self._observer = observer or Observer()

    def check(self, text: str) -> URL:
        """Return the URL as it is to be requested, or raise SourceForbiddenError with the reason."""
        url, listed = self._judge(text, enforced=self._enforced)
        if not listed:
            log.warning("%s is not on SOURCE_ALLOWLIST and would be refused", redact_url(str(url)))
            self._observer.denied(DenialReason.NOT_ALLOWED_REPORTED)
        return url

    def contains(self, text: str) -> bool:
        """Whether the list itself, in whatever mode, lets the URL through."""
        try:
            self._judge(text, enforced=True)
        except SourceForbiddenError:
            return False
        return True

    def names(self, host: str) -> bool:
        """Whether the host may be looked up at all."""
        return not self._enforced or any(entry.matches_host(host) for entry in self._entries)

    def _judge(self, text: str, *, enforced: bool) -> tuple[URL, bool]:
        """Return the URL and whether it is on the list. Only an origin that the list names may be more than https."""
        url = parse_source_url(text)
        permitting = [entry for entry in self._entries if entry.matches(url)]
        if any(entry.origin is not None for entry in permitting):
            return url, True
        if enforced and not permitting:
            raise SourceForbiddenError(
                f"{url.scheme}://{url.host}:{url.port} is not on SOURCE_ALLOWLIST (https on port 443 unless an entry "
                "names scheme, host and port)",
                reason=DenialReason.NOT_ALLOWED,
            )
        if url.scheme != "https":
            raise SourceForbiddenError("the source URL is not https", reason=DenialReason.SCHEME)
        if url.port != HTTPS_PORT:
            raise SourceForbiddenError(f"the source URL's port is not {HTTPS_PORT}", reason=DenialReason.PORT)
        address = literal_address(host_of(url))
        if address is not None and not is_public(address):
            raise SourceForbiddenError("the source URL's address is not public", reason=DenialReason.ADDRESS)
        return url, bool(permitting)


class GuardedResolver(AbstractResolver):
    """Resolves names once and hands on only addresses that passed; aiohttp connects to exactly these.

    A host that is an address never comes here: `Allowlist.check` judges it. So there are no exceptions here either: an
    origin on the list makes its address reachable by that origin's URLs, not by every name that resolves to it.
    """

    def __init__(self, allowlist: Allowlist) -> None:
        self._allowlist = allowlist
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve `host`; raise SourceForbiddenError when any of its addresses is not public, or no entry names it."""
        if not self._allowlist.may_resolve(host):
            raise SourceForbiddenError(f"{host} is not on SOURCE_ALLOWLIST", reason=DenialReason.NOT_ALLOWED)
        results = await self._resolver.resolve(host, port, family)
        if not all(is_public_text(result["host"]) for result in results):
            raise SourceForbiddenError(f"{host} resolves to an address that is not public", reason=DenialReason.ADDRESS)
        return results

    async def close(self) -> None:
        """Close the resolver underneath."""
        await self._resolver.close()


def _origin(url: URL) -> tuple[str, str, int | None]:
    return url.scheme, host_of(url), url.port
