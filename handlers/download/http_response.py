"""Interprets the status and the headers of a source's response."""

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
STRONG_ETAG: Final = re.compile(r'"[!#-~]+"')
CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


def check_status(status: int, headers: Mapping[str, str], url: str) -> None:
    """Return when the status is 200; otherwise raise the error of our tree that it stands for.

    Raises:
        SourceGoneError: the source does not have the file, or refuses access.
        SourceUnavailableError: the source did not deliver the file this time.
        FileProcessingError: any other status; also final.
    """
    if status == HTTPStatus.OK:
        return
    message = f"{redact_url(url)} answered {status}"
    if status in RETRYABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise SourceUnavailableError(message, retry_after=retry_after(headers.get("Retry-After")))
    if status in {401, 403, 404, 410}:
        raise SourceGoneError(f"{message}: the file no longer exists, or its link has expired")
    raise FileProcessingError(message, code="source_gone")


def retry_after(value: str | None) -> float | None:
    """Return a Retry-After header (RFC 9110, 10.2.3) as seconds from now, at most one day; None when invalid."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        time = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    seconds = (time.replace(tzinfo=time.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


def strong_etag(headers: Mapping[str, str]) -> str | None:
    """Return the ETag if it is strong. A weak ETag does not guarantee the same bytes (RFC 9110, 8.8.1)."""
    etag = headers.get("ETag", "").strip()
    return etag if STRONG_ETAG.fullmatch(etag) else None


def check_partial_content(headers: Mapping[str, str], start: int, total: int | None, etag: str) -> int:
    """Check that a 206 response has the same file from byte `start` to its end; return the file's size.

    `total` is the expected size, if it is known (RFC 9110, 14.4 and 15.3.7).

    Raises:
        SourceUnavailableError: the response has another file or another range.
    """
    content_range = CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if content_range is None or headers.get("ETag", "").strip() != etag or "Content-Encoding" in headers:
        raise SourceUnavailableError("the source resumed with another version of the file")
    first, end = int(content_range[1]), int(content_range[2]) + 1
    stated = None if content_range[3] == "*" else int(content_range[3])
    sizes = {size for size in (total, stated) if size is not None}
    if first != start or end <= first or sizes - {end}:
        raise SourceUnavailableError(
            f"the source resumed with {content_range[0]!r}; the request was for byte {start} to the end"
        )
    return end


def check_range_end(headers: Mapping[str, str], size: int) -> None:
    """Check that a 416 response means that the file ends at byte `size` (RFC 9110, 15.5.17).

    Raises:
        SourceUnavailableError: the file has another size, so it has changed.
    """
    if headers.get("Content-Range", "").strip() != f"bytes */{size}":
        raise SourceUnavailableError(f"the source cannot resume at byte {size}, which is not the end of the file")
