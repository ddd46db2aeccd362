import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.download.http_response import check_status, retry_after, strong_etag
from handlers.errors import FileProcessingError, SourceGoneError, SourceUnavailableError

FAL, OTHER = "https://v3.fal.media/f?signature=topsecret", "https://bucket.test/f?signature=topsecret"
GONE, LATER = (SourceGoneError, "source_gone"), (SourceUnavailableError, "source_unavailable")


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {}),
        (203, {}),
        (206, {"Content-Range": "bytes 0-9/10"}),
        (200, {"Retry-After": "5"}),
    ],
)
def test_a_status_whose_body_is_the_whole_file_is_accepted(status, headers):
    assert check_status(status, headers, FAL) is None


@pytest.mark.parametrize("url", [FAL, OTHER])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, GONE) for status in (401, 403, 410)),
        *((status, LATER) for status in (202, 206, 408, 409, 421, 423, 425, 429, 500, 501, 502, 503, 504, 507, 599)),
        *((status, (FileProcessingError, "source_gone")) for status in (201, 204, 205, 300, 304, 400, 402, 405, 406)),
        *((status, (FileProcessingError, "source_gone")) for status in (412, 413, 416, 418, 422, 426, 431, 451, 499)),
    ],
)
def test_any_other_status_raises_its_error_without_the_query(status, expected, url):
    with pytest.raises(expected[0], match=str(status)) as failed:
        check_status(status, {}, url)
    assert (failed.value.code, failed.value.retryable) == (expected[1], expected == LATER)
    assert "topsecret" not in str(failed.value)


@pytest.mark.parametrize(
    ("url", "retryable"),
    [
        ("https://fal.media/f", False),
        ("https://v3b.fal.media/f", False),
        ("https://storage.googleapis.com/falserverless/f", False),
        ("https://storage.googleapis.com/mine/f", True),
        ("https://bucket.s3.eu-central-1.amazonaws.com/f?X-Amz-Signature=s", True),
        ("https://fal.media.test/f", True),
    ],
)
def test_a_404_is_final_only_where_fal_serves_its_own_files(url, retryable):
    with pytest.raises(SourceGoneError, match="answered 404") as failed:
        check_status(404, {}, url)
    assert (failed.value.code, failed.value.retryable) == ("source_gone", retryable)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418])
def test_a_refusal_that_names_a_time_is_retried_after_it(status):
    with pytest.raises(SourceUnavailableError, match=str(status)) as failed:
        check_status(status, {"Retry-After": "7"}, FAL)
    assert failed.value.retry_after == 7


def test_a_refusal_with_an_invalid_time_is_final():
    with pytest.raises(SourceGoneError):
        check_status(403, {"Retry-After": "soon"}, FAL)


@pytest.mark.parametrize(
    "content_range", ["bytes 0-8/10", "bytes 1-9/10", "bytes 0-9/*", "bytes 0-10/10", "items 0-9/10", "bytes */10", ""]
)
def test_an_unrequested_part_of_a_file_is_retried(content_range):
    with pytest.raises(SourceUnavailableError, match="206 with a part"):
        check_status(206, {"Content-Range": content_range}, FAL)


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
