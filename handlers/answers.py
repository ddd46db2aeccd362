"""What a source's HTTP status means to us."""

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from handlers.errors import FileProcessingError, SourceGoneError, SourceUnavailableError
from schemas.urls import shown

RETRYABLE: Final = frozenset({408, 425, 429})


def check_status(status: int, headers: Mapping[str, str], url: str) -> None:
    """Translate an HTTP status into our error tree; return when it is 200.

    Raises:
        SourceGoneError: the source does not have the file, or refuses it.
        SourceUnavailableError: the source did not deliver this time.
        FileProcessingError: any other status, final as well.
    """
    if status == HTTPStatus.OK:
        return
    said = f"{shown(url)} answered {status}"
    if status in RETRYABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise SourceUnavailableError(said, retry_after=_retry_after(headers.get("Retry-After")))
    if status in {401, 403, 404, 410}:
        raise SourceGoneError(f"{said}: the file is not there any more, or its link has expired")
    raise FileProcessingError(said, code="source_gone")


def _retry_after(value: str | None) -> float | None:
    """Read a Retry-After header (RFC 9110, 10.2.3): seconds, or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
