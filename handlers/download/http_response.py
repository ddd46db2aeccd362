"""Interprets the status and the headers of a source's response."""

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from multidict import CIMultiDictProxy

from handlers.download.content_encoding import content_codings
from handlers.download.fal_files import is_fal_url
from handlers.download.statuses import StatusMeaning, meaning_of
from handlers.errors import FileProcessingError, SourceGoneError, SourceUnavailableError
from schemas.urls import redact_url

MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
STRONG_ETAG: Final = re.compile(r'"[!#-~]+"')
CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


def check_status(status: int, headers: Mapping[str, str], url: str) -> None:
    """Return if the status means that the body is the whole file; otherwise raise the error for the status.

    Raises:
        SourceGoneError: the source does not have the file, or refuses access. Retryable if the file may come yet.
        SourceUnavailableError: the source did not deliver the file this time.
        FileProcessingError: any other status, with the code `source_gone`; not retryable.
    """
    seconds = retry_after(headers.get("Retry-After"))
    message = f"{redact_url(url)} answered {status}"
    match meaning_of(status, retry_later=seconds is not None):
        case StatusMeaning.CONTENT:
            return
        case StatusMeaning.PARTIAL:
            if not _is_whole(headers):
                raise SourceUnavailableError(f"{message} with a part of the file; the request was for all of it")
        case StatusMeaning.LATER:
            raise SourceUnavailableError(message, retry_after=seconds)
        case StatusMeaning.MISSING if not is_fal_url(url):
            raise SourceGoneError(f"{message}: the file does not exist, or not yet", retryable=True)
        case StatusMeaning.MISSING | StatusMeaning.REFUSED:
            raise SourceGoneError(f"{message}: the file no longer exists, or its link has expired")
        case StatusMeaning.OTHER:
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


def _is_whole(headers: Mapping[str, str]) -> bool:
    """Return whether the range of a 206 response is the whole file."""
    content_range = CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    return content_range is not None and content_range[1] == "0" and int(content_range[2]) + 1 == _size(content_range)


def _size(content_range: re.Match[str]) -> int | None:
    return None if content_range[3] == "*" else int(content_range[3])


def check_partial_content(headers: CIMultiDictProxy[str], start: int, total: int | None, etag: str) -> int:
    """Check that a 206 response has the same file from byte `start` to its end; return the file's size.

    `total` is the expected size, if it is known (RFC 9110, 14.4 and 15.3.7).

    Raises:
        SourceUnavailableError: the response has another file or another range.
    """
    content_range = CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if content_range is None or headers.get("ETag", "").strip() != etag or content_codings(headers):
        raise SourceUnavailableError("the source resumed with another version of the file")
    first, end = int(content_range[1]), int(content_range[2]) + 1
    sizes = {size for size in (total, _size(content_range)) if size is not None}
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
