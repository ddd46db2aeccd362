import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.download.http_response import check_status, retry_after, strong_etag
from handlers.errors import FileProcessingError, SourceGoneError, SourceUnavailableError


def test_status_200_is_accepted():
    assert check_status(200, {}, "https://fal.media/f") is None


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (404, SourceGoneError, "source_gone"),
        (410, SourceGoneError, "source_gone"),
        (401, SourceGoneError, "source_gone"),
        (403, SourceGoneError, "source_gone"),
        (429, SourceUnavailableError, "source_unavailable"),
        (408, SourceUnavailableError, "source_unavailable"),
        (425, SourceUnavailableError, "source_unavailable"),
        (500, SourceUnavailableError, "source_unavailable"),
        (503, SourceUnavailableError, "source_unavailable"),
        (400, FileProcessingError, "source_gone"),
        (204, FileProcessingError, "source_gone"),
        (206, FileProcessingError, "source_gone"),
    ],
)
def test_any_other_status_raises_its_error_without_the_query(status, error, code):
    with pytest.raises(error, match=str(status)) as failed:
        check_status(status, {}, "https://fal.media/f?signature=topsecret")
    assert failed.value.code == code
    assert failed.value.retryable == (error is SourceUnavailableError)
    assert "topsecret" not in str(failed.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 7 ", 7),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", None),
        ("-7", None),
        ("7.5", None),
        ("²", None),
        ("9" * 5000, 86_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999", None),
    ],
)
def test_retry_after_is_seconds_capped_at_a_day_or_none(value, seconds):
    assert retry_after(value) == seconds


def test_retry_after_http_date_is_the_seconds_until_it():
    seconds = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=1000), usegmt=True))
    assert 900 < seconds <= 1000


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} -?\d+ \d+:\d+:\d+ [+-]\d+", fullmatch=True))
def test_any_retry_after_is_at_most_a_day_or_none(value):
    seconds = retry_after(value)
    assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= 86_400)


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ('"abc"', '"abc"'),
        (' "a-b:c/d" ', '"a-b:c/d"'),
        ('W/"abc"', None),
        ("abc", None),
        ('""', None),
        ('"a"b"', None),
        ('"a\r\nX: y"', None),
        ('"é"', None),
        (None, None),
    ],
)
def test_only_a_strong_etag_is_returned(value, tag):
    assert strong_etag({} if value is None else {"ETag": value}) == tag
