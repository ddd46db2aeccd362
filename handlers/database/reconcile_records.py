"""The SQL functions of the periodic jobs: find missing work, choose the worker that runs a job, end failed tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from handlers.database.client import Supabase
from handlers.database.rpc import parse_answer
from handlers.database.task_records import MAX_OUTPUT_BYTES, task_row
from schemas.jobs import Job
from schemas.periodic import ReconcilePage

PAGE_ENTRIES: Final = 200
PAGE_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MissingQuery:
    """What the sweep looks for: generations created at or after `since` and not after `until`, and stalled tasks.

    A task is stalled when it has been queued, running or retrying without a change for `idle_seconds`. Without
    `with_outputs` the entries have no output, and are only for counting. `past` is the name of a binding: then the
    query finds the generations of this binding from before the installation, and the tasks that an interrupted
    `outlast adopt` left queued.
    """

    since: datetime | None
    until: datetime | None
    idle_seconds: int
    with_outputs: bool = True
    past: str | None = None


class ReconcileRecords:
    """The functions of `deploy/supabase/migrations` for the sweep and other periodic jobs.

    Every method raises DatabaseUnavailableError when the database does not answer.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def missing(self, query: MissingQuery, after: dict[str, Any] | None = None) -> ReconcilePage:
        """Return the page of generations without media and of stalled tasks that begins at `after`.

        A page has at most PAGE_ENTRIES entries and PAGE_BYTES of outputs, or one entry with a larger output.
        """
        answer = await self._supabase.call(
            "outlast_missing_page",
            {
                "p_since": _iso(query.since),
                "p_until": _iso(query.until),
                "p_after": after or (None if query.past is None else {"kind": "past", "binding": query.past}),
                "p_limit": PAGE_ENTRIES,
                "p_idle_seconds": query.idle_seconds,
                "p_page_bytes": PAGE_BYTES,
                "p_output_bytes": MAX_OUTPUT_BYTES if query.with_outputs else 0,
            },
        )
        return parse_answer("outlast_missing_page", ReconcilePage, answer)

    async def retry_rejected_row(self) -> bool:
        """Write `media` to one row that refused it before, if a retry is due; return whether one was due.

        `media` and `media_status` of a row are written in the same transaction as its files. What the row refuses is
        written later by this call, at growing intervals.
        """
        return bool((await self._supabase.call("outlast_retry_rejected", {}))["retried"])

    async def requeue(self, jobs: Sequence[Job]) -> set[UUID]:
        """Record the tasks of the jobs; return the ids of those whose jobs must be published.

        Ended tasks and tasks with a valid lease are left out. A task without files becomes completed.
        """
        answer = await self._supabase.call("outlast_requeue", {"p_jobs": [task_row(job) for job in jobs]})
        return {UUID(task_id) for task_id in answer["publish"]}

    async def mark_failed(self, failures: Sequence[dict[str, Any]]) -> set[UUID]:
        """End tasks whose message is lost or dead-lettered: as failed, or as partial if some of their files are stored.

        `failures` have `task_id`, `code` and `error` each. Ended tasks and tasks with a valid lease are not changed.
        Returns the ids of the tasks that were changed.
        """
        answer = await self._supabase.call("outlast_bury", {"p_letters": list(failures)})
        return {UUID(task_id) for task_id in answer["changed"]}

    async def claim_slot(self, name: str, every_seconds: float, worker: str) -> bool:
        """Return whether this worker is to run the periodic job `name` now: at most one worker in `every_seconds`."""
        answer = await self._supabase.call(
            "outlast_turn", {"p_name": name, "p_every_seconds": max(1, round(every_seconds)), "p_worker": worker}
        )
        return bool(answer["mine"])

    async def expire_archive(self) -> None:
        """Remove discarded dead letters whose retention time is over."""
        await self._supabase.call("outlast_archive", {"p_letters": [], "p_keep_seconds": 0})


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
