"""How the failures of each group of dead letters are spread over time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

INTERVALS: Final = 24


@dataclass(frozen=True, slots=True)
class FailureTimeline:
    """Failures per group in equal intervals from `first` to `last`."""

    first: datetime | None
    last: datetime | None
    counts: dict[str, list[int]]


def failure_timeline(failures: Iterable[tuple[str, datetime | None]]) -> FailureTimeline:
    """Count the failures of each group. `failures` has pairs of group and time; all groups share the intervals."""
    known = [(group, at) for group, at in failures if at is not None]
    first = min((at for _, at in known), default=None)
    last = max((at for _, at in known), default=None)
    counts: dict[str, list[int]] = {}
    for group, at in known:
        span = max((last - first).total_seconds(), 1.0) if first and last else 1.0
        index = int((at - first).total_seconds() / span * INTERVALS) if first else 0
        counts.setdefault(group, [0] * INTERVALS)[min(INTERVALS - 1, index)] += 1
    return FailureTimeline(first, last, counts)
