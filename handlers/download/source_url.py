"""How a source URL may be spelled: the rules that hold for every URL, whatever the allow-list says.

They are strict where parsers disagree, since a URL that two programs read differently is how guards are passed.
"""

import re
from typing import Final
from urllib.parse import unquote

from yarl import URL

from handlers.download.addresses import literal_address
from handlers.errors import DenialReason, SourceForbiddenError

MAX_DECODINGS: Final = 4
"""How often a path is decoded to see whether it climbs. One that is encoded more often is refused."""

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_AUTHORITY: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
# No encoded host, no zone id, no backslash, no port in foreign digits.
_HOST_AND_PORT: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s\[\]:%\\]+)(?::[0-9]{0,5})?")
# What getaddrinfo takes without complaint; a trailing dot is refused, since caches, limits and logs know hosts by name.
_NAME: Final = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")


def parse_source_url(text: str) -> URL:
    """Parse a URL; raise SourceForbiddenError with the reason when it is not spelled as a source's is.

    The host of what is returned is in lower case and ASCII: punycode, and full-width forms as what they stand for.
    """
    if text.partition(":")[0].lower() not in {"http", "https"}:
        raise SourceForbiddenError("the source URL is neither http nor https", reason=DenialReason.SCHEME)
    url = _parsed(text)
    try:
        address = literal_address(host_of(url))
    except ValueError:
        raise SourceForbiddenError("the source URL spells an address oddly", reason=DenialReason.ADDRESS) from None
    if address is None and not _NAME.fullmatch(host_of(url)):
        raise _malformed("its host is no name")
    if _climbs(url.raw_path):
        raise SourceForbiddenError("the source URL's path climbs, or cannot be decoded", reason=DenialReason.PATH)
    return url


def host_of(url: URL) -> str:
    """Return the host as it is looked up; empty when there is none."""
    return url.raw_host or ""


def _parsed(text: str) -> URL:
    shape = _AUTHORITY.match(text)
    if shape is None or _UNPRINTABLE.search(text):
        raise _malformed("it has no host, or control characters")
    if "@" in shape[1]:
        raise SourceForbiddenError("the source URL carries a user name", reason=DenialReason.USERINFO)
    if not _HOST_AND_PORT.fullmatch(shape[1]):
        raise _malformed("its host or port is spelled oddly")
    try:
        url = URL(text)
        url.port, url.host  # noqa: B018 - parsed on access, punycode included
    except ValueError as error:
        raise _malformed(str(error)) from None
    return url


def _malformed(why: str) -> SourceForbiddenError:
    return SourceForbiddenError(f"the source URL cannot be read: {why}", reason=DenialReason.MALFORMED)


def _climbs(raw_path: str) -> bool:
    """Whether a path, decoded as often as a careless server might, leaves its folder or is no printable text."""
    path = raw_path
    for _ in range(MAX_DECODINGS):
        segments = path.replace("\\", "/").split("/")
        if _UNPRINTABLE.search(path) or any(segment.partition(";")[0] == ".." for segment in segments):
            return True
        try:
            path, before = unquote(path, errors="strict"), path
        except UnicodeDecodeError:
            return True
        if path == before:
            return False
    return True
