"""What a source's answer means to us: its status, its validator, and the part of the file it claims to bring."""

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from handlers.errors import FileProcessingError, SourceGoneError, SourceUnavailableError
from schemas.urls import redact_url

RETRYABLE: Final = frozenset({408, 425, 429})
MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
STRONG_TAG: Final = re.compile(r'"[!#-~]+"')
CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


def check_status(status: int, headers: Mapping[str, str], url: str) -> None:
    """Translate an HTTP status into our error tree; return when it is 200.

    Raises:
        SourceGoneError: the source does not have the file, or refuses it.
        SourceUnavailableError: the source did not deliver this time.
        FileProcessingError: any other status, final as well.
    """
    if status == HTTPStatus.OK:
        return
    said = f"{redact_url(url)} answered {status}"
    if status in RETRYABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise SourceUnavailableError(said, retry_after=retry_after(headers.get("Retry-After")))
    if status in {401, 403, 404, 410}:
        raise SourceGoneError(f"{said}: the file is not there any more, or its link has expired")
    raise FileProcessingError(said, code="source_gone")


def retry_after(value: str | None) -> float | None:
    """Read a Retry-After header (RFC 9110, 10.2.3), seconds or a date: seconds from now, a day at most."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


def strong_etag(headers: Mapping[str, str]) -> str | None:
    """Return the ETag, if it is a strong one: a weak one does not promise the same bytes (RFC 9110, 8.8.1)."""
    tag = headers.get("ETag", "").strip()
    return tag if STRONG_TAG.fullmatch(tag) else None


def check_partial_content(headers: Mapping[str, str], start: int, total: int | None, tag: str) -> int:
    """See that a 206 brings what was asked for, the same file from byte `start` to its end; return the file's size.

    `total` is the size as far as it is known. (RFC 9110, 14.4 and 15.3.7)

    Raises:
        SourceUnavailableError: it brings anything else.
    """
    part = CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if part is None or headers.get("ETag", "").strip() != tag or "Content-Encoding" in headers:
        raise SourceUnavailableError("the source resumed with something else than the same file's bytes")
    first, end = int(part[1]), int(part[2]) + 1
    sizes = {size for size in (total, None if part[3] == "*" else int(part[3])) if size is not None}
    if first != start or end <= first or sizes - {end}:
        raise SourceUnavailableError(f"the source resumed with {part[0]!r}, asked for all from byte {start} on")
    return end


def check_range_end(headers: Mapping[str, str], size: int) -> None:
    """See that a 416 only says that `size` bytes are all there are (RFC 9110, 15.5.17).

    Raises:
        SourceUnavailableError: it says something else; the file has changed.
    """
    if headers.get("Content-Range", "").strip() != f"bytes */{size}":
        raise SourceUnavailableError(f"the source has nothing from byte {size} on, though the file goes on there")
