"""Reads the points in time that people type: ISO 8601, a time of day, or how long ago. The zone is UTC by default."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator

NOT_A_TIME: Final = (
    "is not a date or time; write for example 2026-11-01, 2026-11-01T12:00Z, 02:00 (UTC), 90m, 2h or 3d (ago), today "
    "or yesterday"
)
UNESCAPED_PLUS: Final = re.compile(r"(T\S+) (\d\d:?\d\d)$")
"""A time offset whose `+` was decoded to a space in a query string."""
AGO: Final = re.compile(r"(\d{1,6})\s*(s|min|m|h|d|w)(?:\s+ago)?", re.IGNORECASE)
SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(?: ?UTC)?", re.IGNORECASE)
DISPLAYED: Final = "%d %b %H:%M:%S"
"""The form in which the console displays a time of this year, without the zone, which is UTC."""


def read_moment(value: object, now: datetime | None = None) -> datetime:
    """Return a point in time in UTC.

    A time without an offset is UTC. `02:00` is the last time that it was 02:00. `2h` is two hours ago. `30 Nov
    12:00:00 UTC`, the form in which the console displays times, is the last such time, in this year or the last.

    Raises:
        ValueError: the value has none of these forms and is not ISO 8601, or it is out of range.
    """
    now = now or datetime.now(UTC)
    if isinstance(value, str):
        value = _read_text(value.strip(), now)
    if not isinstance(value, datetime):
        raise ValueError(NOT_A_TIME)  # noqa: TRY004 - pydantic expects a ValueError
    try:
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


def _read_now(value: object) -> datetime:
    return read_moment(value)


Timestamp = Annotated[datetime, BeforeValidator(_read_now)]


def _read_text(text: str, now: datetime) -> datetime | None:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if text.lower() in words:
        return words[text.lower()]
    if ago := AGO.fullmatch(text):
        return _before(now, int(ago[1]) * SECONDS[ago[2].lower()])
    if clock := CLOCK.fullmatch(text):
        at = midnight.replace(hour=int(clock[1]), minute=int(clock[2]), second=int(clock[3] or 0))
        return at if at <= now else at - timedelta(days=1)
    text = text.removesuffix("UTC").rstrip()
    try:
        return datetime.fromisoformat(UNESCAPED_PLUS.sub(r"\1+\2", text))
    except ValueError:
        return _read_displayed(text, now)


def _before(now: datetime, seconds: int) -> datetime:
    try:
        return now - timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("is out of range") from None


def _read_displayed(text: str, now: datetime) -> datetime | None:
    """Read a time in the form DISPLAYED: of this year, or of the last year if it would be in the future; else None."""
    for year in (now.year, now.year - 1):
        try:
            at = datetime.strptime(f"{year} {text}", f"%Y {DISPLAYED}").replace(tzinfo=UTC)
        except ValueError:  # also 29 February of another year
            continue
        if at <= now:
            return at
    return None
