"""The generations that `outlast adopt` takes: their selection, and the SQL functions that count them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field

from handlers.database.client import Supabase
from handlers.database.rpc import parse_answer
from schemas.base import Frozen
from schemas.jobs import DEFAULT_BINDING
from schemas.periodic import ReconcileEntry

SAMPLE_ROWS = 40


@dataclass(frozen=True, slots=True)
class PastSelection:
    """Which generations of a binding to take: created at or after `since` and not after `until`, the oldest `limit`.

    With `since` or `until`, rows without a creation time are left out. At most `rate` a second are enqueued.
    """

    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None
    rate: float | None = None
    binding: str = DEFAULT_BINDING

    @property
    def arguments(self) -> dict[str, str | None]:
        """The selection as arguments of `outlast_past`. It has no `limit` and no `rate`."""
        return {
            "p_since": None if self.since is None else self.since.isoformat(),
            "p_until": None if self.until is None else self.until.isoformat(),
            "p_binding": self.binding,
        }


class PastCount(Frozen):
    """The answer of `outlast_past`. `bindings`: the names of all. Times are texts: PostgreSQL has more than Python."""

    bindings: list[str]
    generations: int
    installed_at: str
    oldest: str | None = None
    newest: str | None = None
    seconds_per_task: float | None = None
    sample: list[ReconcileEntry] = Field(default_factory=list)


class AdoptedTotals(Frozen):
    """The answer of `outlast_adopted`, for all runs: tasks by status, files, failed files by error code."""

    tasks: dict[str, int]
    stored_files: int
    codes: dict[str, int]


class PastRecords:
    """The SQL functions of `outlast adopt`. Every method raises DatabaseUnavailableError."""

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def count(self, selection: PastSelection) -> PastCount:
        """Count the generations to take, and return a sample of them."""
        arguments: dict[str, Any] = selection.arguments | {"p_sample": SAMPLE_ROWS}
        return parse_answer("outlast_past", PastCount, await self._supabase.call("outlast_past", arguments))

    async def totals(self, binding: str) -> AdoptedTotals:
        """Return what all runs for a binding together have done."""
        answer = await self._supabase.call("outlast_adopted", {"p_binding": binding})
        return parse_answer("outlast_adopted", AdoptedTotals, answer)
