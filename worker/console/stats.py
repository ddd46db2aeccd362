"""The figures of the first page: what the database tells of the last hour, minute by minute, and what is wrong."""

from collections.abc import Iterable
from typing import Any, Final

from handlers.database.console_queries import Row

MINUTES: Final = 60
NO_FILES: Final = {"stored": 0, "original": 0, "bytes": 0, "deduplicated": 0}


def figures(told: Row) -> Row:
    """Return what the page shows of the database's answer; of an empty one too."""
    ended, active = told.get("ended", ()), told.get("active", {})
    good = _minutes(ended, {"completed"})
    bad = _minutes(ended, {"failed", "partial"})
    over = [a + b for a, b in zip(good, bad, strict=True)]
    waiting, files = active.get("queued", 0) + active.get("retrying", 0), told.get("files", NO_FILES)
    gone = _minutes(ended, {"completed", "failed", "partial", "cancelled"})
    return {
        "good": good,
        "bad": bad,
        "over": over,
        "ratio": sum(good) / sum(over) if sum(over) else None,
        "active": active,
        "waiting": waiting,
        "backlog": backlog(waiting + active.get("running", 0), _minutes(told.get("arrived", ())), gone),
        "oldest": told.get("oldest"),
        "ages": _ages(ended),
        "age": _typical(ended),
        "files": files,
        "saved": max(0, files["original"] - files["bytes"]),
        "workers": sorted(told.get("workers", {}).get("workers", {}).items()),
        "running": told.get("workers", {}).get("active_tasks", {}),
    }


def wrong_with_workers(told: Row) -> list[str]:
    """Say which workers are paused, and whether there is none; nothing when the database told nothing."""
    if not told:
        return []
    workers: dict[str, Any] = told["workers"]["workers"]
    if not workers:
        return ["No worker has been heard of for a minute: start one (outlast worker), or look at its log"]
    return [
        f"{name} is paused: {what} {said}"
        for name, worker in sorted(workers.items())
        for what, said in sorted(worker.get("paused", {}).items())
    ]


def backlog(now: int, arrived: list[int], gone: list[int]) -> list[int]:
    """Return how many were under way at the end of each minute, counted back from now."""
    found = [now]
    for came, went in zip(reversed(arrived), reversed(gone), strict=True):
        found.append(max(0, found[-1] - came + went))
    return found[-2::-1]


def _minutes(rows: Iterable[Row], statuses: set[str] | None = None) -> list[int]:
    counts = [0] * MINUTES
    for row in rows:
        if 0 <= row["ago"] < MINUTES and (statuses is None or row["status"] in statuses):
            counts[MINUTES - 1 - row["ago"]] += row["n"]
    return counts


def _ages(rows: Iterable[Row]) -> list[float]:
    ages = [0.0] * MINUTES
    for row in rows:
        if 0 <= row["ago"] < MINUTES and row["status"] == "completed":
            ages[MINUTES - 1 - row["ago"]] = max(0.0, row["age"] or 0.0)
    return ages


def _typical(rows: Iterable[Row]) -> float | None:
    """Return how long it took on average; None where nothing was stored."""
    stored = [(row["age"] or 0.0, row["n"]) for row in rows if row["status"] == "completed"]
    return max(0.0, sum(age * n for age, n in stored) / sum(n for _, n in stored)) if stored else None
