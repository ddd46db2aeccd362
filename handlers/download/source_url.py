"""Parses source URLs, with rules that apply to every URL, whether it is on the allow-list or not.

The rules are strict where URL parsers disagree: a URL that two programs read differently can bypass a check.

Path and query are requested as they were given, because a signature covers the characters: `%2B` is not `+` and `%7E`
is not `~` to a server that signed the link. Rules are checked on the normalized form (RFC 3986, 6.2.2).
"""

import re
import string
from typing import Final
from urllib.parse import quote, unquote, urljoin

from yarl import URL

from handlers.download.addresses import literal_address
from handlers.errors import DenialReason, SourceForbiddenError
from schemas.urls import MAX_URL_CHARACTERS, parse_url, redact_url

MAX_DECODINGS: Final = 4
"""How often a path is percent-decoded to search for `..`. A path that is encoded so often, or more, is refused."""

_CONTROL_OR_SURROGATE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_AUTHORITY: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
# No percent-encoded host, no zone id, no backslash, no port in non-ASCII digits.
_HOST_AND_PORT: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s\[\]:%\\]+)(?::[0-9]{0,5})?")
# What getaddrinfo accepts. A trailing dot is refused, because caches, limits and logs compare hosts by name.
_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)(?!.*\bxn--(?:\.|$))(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
_AS_GIVEN: Final = "".join(sorted({*string.punctuation} - {*'"#<>\\^`{}'}))
"""Punctuation that is not percent-encoded. Browsers encode the rest in a path (WHATWG URL, path percent-encode set)."""
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_source_url(text: str) -> URL:
    """Return the URL to request; raise SourceForbiddenError with the reason when it breaks a rule.

    The host of the returned URL is in lower case and ASCII: international names in punycode, full-width characters
    replaced by the ASCII characters they stand for. Path and query are as given, except that `.` and `..` segments are
    resolved and that characters which a request line cannot have are percent-encoded. The fragment is removed.
    """
    if text.partition(":")[0].lower() not in {"http", "https"}:
        raise SourceForbiddenError("the source URL is neither http nor https", reason=DenialReason.SCHEME)
    if len(text) > MAX_URL_CHARACTERS:
        raise _malformed(f"it has more than {MAX_URL_CHARACTERS} characters")
    url = _parse(text)
    try:
        address = literal_address(host_of(url))
    except ValueError:
        raise SourceForbiddenError(
            "the source URL has an IP address in an unusual notation", reason=DenialReason.ADDRESS
        ) from None
    if address is None and not _HOST_NAME.fullmatch(host_of(url)):
        raise _malformed("the host is not a valid name")
    if _has_parent_segment(url.raw_path):
        raise SourceForbiddenError("the source URL's path contains `..` or cannot be decoded", reason=DenialReason.PATH)
    return url


def host_of(url: URL) -> str:
    """Return the host as it is looked up in DNS; empty when there is none."""
    return url.raw_host or ""


def redirect_target(origin: URL, location: str) -> str:
    """Return the absolute URL of a Location header (RFC 3986, 5.2). Its characters are not changed otherwise.

    Raises:
        SourceForbiddenError: the header is missing or cannot be parsed.
    """
    try:
        target = parse_url(location)
        if location.strip() and not _CONTROL_OR_SURROGATE.search(location) and (target.host or not target.absolute):
            return urljoin(str(origin), location)
    except ValueError:
        pass
    raise SourceForbiddenError(
        f"{redact_url(str(origin))}: the redirect has no valid Location", reason=DenialReason.MALFORMED
    )


def normalized_path(url: URL) -> str:
    """Return the path without `.` and `..` segments and without needless percent-encoding, to compare folders."""
    return URL(str(url)).raw_path


def _parse(text: str) -> URL:
    authority = _AUTHORITY.match(text)
    if authority is None or _CONTROL_OR_SURROGATE.search(text):
        raise _malformed("it has no host, or contains control characters")
    if "@" in authority[1]:
        raise SourceForbiddenError("the source URL contains a user name", reason=DenialReason.USERINFO)
    if not _HOST_AND_PORT.fullmatch(authority[1]):
        raise _malformed("its host or port is invalid")
    try:
        url = parse_url(text)
        url.port  # noqa: B018 - it is parsed on access and may raise ValueError
    except ValueError as error:
        raise _malformed(str(error)) from None
    return _as_given(url, URL(text, encoded=True))


def _as_given(normalized: URL, given: URL) -> URL:
    """Return `normalized` with path and query of `given`.

    Only a path with `.` or `..` segments is normalized: clients resolve them before the request (RFC 3986, 5.2.4), and
    the server must not see another folder than the allow-list.
    """
    segments = unquote(given.raw_path, errors="replace").replace("\\", "/").split("/")
    path = normalized.raw_path if {".", ".."} & {*segments} else _quote_invalid(given.raw_path)
    query = _quote_invalid(given.raw_query_string)
    authority = normalized.raw_authority
    return URL.build(scheme=normalized.scheme, authority=authority, path=path, query_string=query, encoded=True)


def _quote_invalid(text: str) -> str:
    """Percent-encode spaces, non-ASCII characters, lone `%` and characters that are invalid in URLs."""
    return quote(_LONE_PERCENT.sub("%25", text), safe=_AS_GIVEN)


def _malformed(problem: str) -> SourceForbiddenError:
    return SourceForbiddenError(f"the source URL is invalid: {problem}", reason=DenialReason.MALFORMED)


def _has_parent_segment(raw_path: str) -> bool:
    """Return whether a path, decoded up to MAX_DECODINGS times, contains `..` or control characters.

    Also true for a path that is not UTF-8, or that is percent-encoded MAX_DECODINGS times or more.
    """
    path = raw_path
    for _ in range(MAX_DECODINGS):
        segments = path.replace("\\", "/").split("/")
        if _CONTROL_OR_SURROGATE.search(path) or any(segment.partition(";")[0] == ".." for segment in segments):
            return True
        try:
            path, before = unquote(path, errors="strict"), path
        except UnicodeDecodeError:
            return True
        if path == before:
            return False
    return True
