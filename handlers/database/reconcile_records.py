"""The SQL functions of the periodic jobs: what is missing, which worker runs a job, and tasks that have failed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from handlers.database.client import Supabase
from handlers.database.rpc import parse_answer
from handlers.database.task_records import task_row
from schemas.jobs import Job
from schemas.periodic import ReconcileEntry


class ReconcileRecords:
    """The functions of `deploy/supabase/migrations` for the sweep and other periodic jobs.

    Every method raises DatabaseUnavailableError when the database does not answer.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def missing(self, since: datetime | None, limit: int, idle_seconds: int) -> list[ReconcileEntry]:
        """Return at most `limit` generations without media and stalled tasks, oldest first.

        A task is stalled when it has been queued, running or retrying without a change for `idle_seconds`.
        """
        answer = await self._supabase.call(
            "outlast_missing",
            {
                "p_since": None if since is None else since.isoformat(),
                "p_limit": limit,
                "p_idle_seconds": idle_seconds,
            },
        )
        return parse_answer("outlast_missing", list[ReconcileEntry], answer)

    async def requeue(self, jobs: Sequence[Job]) -> set[UUID]:
        """Record the tasks as queued; return the ids to publish. Ended tasks and tasks with a worker are left out."""
        answer = await self._supabase.call("outlast_requeue", {"p_jobs": [task_row(job) for job in jobs]})
        return {UUID(task_id) for task_id in answer["publish"]}

    async def mark_failed(self, failures: Sequence[dict[str, Any]]) -> set[UUID]:
        """End tasks whose message is lost or dead-lettered: `task_id`, `code` and `error` each.

        Returns the ids of the tasks that were changed.
        """
        answer = await self._supabase.call("outlast_bury", {"p_letters": list(failures)})
        return {UUID(task_id) for task_id in answer["changed"]}

    async def claim_slot(self, name: str, every_seconds: float, worker: str) -> bool:
        """Return whether this worker runs the periodic job `name` now. Each interval is given to one worker only."""
        answer = await self._supabase.call(
            "outlast_turn", {"p_name": name, "p_every_seconds": max(1, round(every_seconds)), "p_worker": worker}
        )
        return bool(answer["mine"])

    async def expire_archive(self) -> None:
        """Remove discarded dead letters whose retention time is over."""
        await self._supabase.call("outlast_archive", {"p_letters": [], "p_keep_seconds": 0})
