"""Figures of the first page, computed from the database's counts of the last hour, and warnings about workers."""

from collections.abc import Iterable
from typing import Any, Final

from handlers.database.console_queries import Row

MINUTES: Final = 60
AGES_PER_MINUTE: Final = 200
"""The database averages the ages of at most so many tasks per minute."""
NO_FILES: Final = {"stored": 0, "original": 0, "bytes": 0, "deduplicated": 0}


def figures(counts: Row) -> Row:
    """Return the template variables of the first page. `counts` may be empty."""
    ended, active = counts.get("ended", ()), counts.get("active", {})
    succeeded = _per_minute(ended, {"completed"})
    failed = _per_minute(ended, {"failed", "partial"})
    ended_per_minute = [a + b for a, b in zip(succeeded, failed, strict=True)]
    waiting, files = active.get("queued", 0) + active.get("retrying", 0), counts.get("files", NO_FILES)
    left = _per_minute(ended, {"completed", "failed", "partial", "cancelled"})
    return {
        "failed": failed,
        "ended": ended_per_minute,
        "success_ratio": sum(succeeded) / sum(ended_per_minute) if sum(ended_per_minute) else None,
        "active": active,
        "waiting": waiting,
        "backlog": backlog(waiting + active.get("running", 0), _per_minute(counts.get("arrived", ())), left),
        "oldest": counts.get("oldest"),
        "age_per_minute": _age_per_minute(ended),
        "average_age": _average_age(ended),
        "ages_per_minute": AGES_PER_MINUTE if max(succeeded) > AGES_PER_MINUTE else None,
        "files": files,
        "saved": max(0, files["original"] - files["bytes"]),
        "workers": sorted(counts.get("workers", {}).get("workers", {}).items()),
        "running": counts.get("workers", {}).get("active_tasks", {}),
    }


def worker_warnings(counts: Row) -> list[str]:
    """Return a warning if no worker is active, and one for each paused worker; none if `counts` is empty."""
    if not counts:
        return []
    workers: dict[str, Any] = counts["workers"]["workers"]
    if not workers:
        return ["No worker has reported for a minute. Start one (outlast worker), or check its log."]
    return [
        f"{name} is paused: {dependency} {reason}"
        for name, worker in sorted(workers.items())
        for dependency, reason in sorted(worker.get("paused", {}).items())
    ]


def backlog(now: int, arrived: list[int], left: list[int]) -> list[int]:
    """Return the number of unfinished tasks at the end of each minute, calculated back from the number `now`.

    `arrived` and `left`: the numbers of tasks that arrived and ended in each minute. All lists begin with the oldest.
    """
    counts = [now]
    for came, went in zip(reversed(arrived), reversed(left), strict=True):
        counts.append(max(0, counts[-1] - came + went))
    return counts[-2::-1]


def _per_minute(rows: Iterable[Row], statuses: set[str] | None = None) -> list[int]:
    counts = [0] * MINUTES
    for row in rows:
        if 0 <= row["ago"] < MINUTES and (statuses is None or row["status"] in statuses):
            counts[MINUTES - 1 - row["ago"]] += row["n"]
    return counts


def _age_per_minute(rows: Iterable[Row]) -> list[float]:
    ages = [0.0] * MINUTES
    for row in rows:
        if 0 <= row["ago"] < MINUTES and row["status"] == "completed":
            ages[MINUTES - 1 - row["ago"]] = max(0.0, row["age"] or 0.0)
    return ages


def _average_age(rows: Iterable[Row]) -> float | None:
    """Return the average seconds from the event until a task was completed; None if none was."""
    stored = [(row["age"] or 0.0, row["n"]) for row in rows if row["status"] == "completed"]
    return max(0.0, sum(age * n for age, n in stored) / sum(n for _, n in stored)) if stored else None
