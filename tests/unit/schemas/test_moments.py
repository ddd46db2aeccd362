"""Points in time as people type them."""

from datetime import UTC, datetime

import pytest

from schemas.moments import read_moment

NOW = datetime(2028, 3, 1, 1, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01 12:00", "2026-11-01T12:00:00+00:00"),
        ("2026-11-01T12:00Z", "2026-11-01T12:00:00+00:00"),
        ("2026-11-01T12:00+02:00", "2026-11-01T10:00:00+00:00"),
        ("2026-11-01T12:00 02:00", "2026-11-01T10:00:00+00:00"),
        ("20261101T120000Z", "2026-11-01T12:00:00+00:00"),
        ("2026-11-01 12:00:00 UTC", "2026-11-01T12:00:00+00:00"),
        ("now", "2028-03-01T01:30:15+00:00"),
        ("today", "2028-03-01T00:00:00+00:00"),
        ("Yesterday", "2028-02-29T00:00:00+00:00"),
        ("90s", "2028-03-01T01:28:45+00:00"),
        ("30m", "2028-03-01T01:00:15+00:00"),
        ("30 min ago", "2028-03-01T01:00:15+00:00"),
        ("2h", "2028-02-29T23:30:15+00:00"),
        ("1d", "2028-02-29T01:30:15+00:00"),
        ("1w", "2028-02-23T01:30:15+00:00"),
        ("01:00", "2028-03-01T01:00:00+00:00"),
        ("1:30:15 UTC", "2028-03-01T01:30:15+00:00"),
        ("02:00", "2028-02-29T02:00:00+00:00"),
        ("01 Mar 01:30:15 UTC", "2028-03-01T01:30:15+00:00"),
        ("29 Feb 12:00:00 UTC", "2028-02-29T12:00:00+00:00"),
        ("02 Mar 00:00:00", "2027-03-02T00:00:00+00:00"),
    ],
)
def test_a_moment_is_read(text, expected):
    assert read_moment(text, NOW).isoformat() == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "25:00",
        "h",
        "-1h",
        "1y",
        "2026-13-01",
        "30 Feb 00:00:00",
        "9999999h",
        5,
        None,
        "9999-12-31T23:59-12:00",
    ],
)
def test_anything_else_is_refused_with_a_reason(value):
    with pytest.raises(ValueError, match=r"is not a date or time; write|is out of range"):
        read_moment(value, NOW)
