"""What the database is asked and told between jobs: what is missing, who sweeps, what must wait again, what is dead."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from handlers.database.client import Supabase
from handlers.database.task_records import task_row
from handlers.errors import DatabaseUnavailableError
from schemas.jobs import Job
from schemas.reconcile import ReconcileEntry

ENTRIES = TypeAdapter(list[ReconcileEntry])


class ReconcileRecords:
    """The sweep's functions of `deploy/supabase/migrations`.

    Every method raises DatabaseUnavailableError when the database gives no answer.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def missing(self, since: datetime | None, limit: int, idle_seconds: int) -> list[ReconcileEntry]:
        """Return at most `limit` generations and tasks to take up again, oldest first."""
        answer = await self._supabase.call(
            "outlast_missing",
            {
                "p_since": None if since is None else since.isoformat(),
                "p_limit": limit,
                "p_idle_seconds": idle_seconds,
            },
        )
        try:
            return ENTRIES.validate_python(answer)
        except ValidationError as error:
            raise DatabaseUnavailableError(
                "outlast_missing answered in a form this version does not know: are its migrations applied?"
            ) from error

    async def requeue(self, jobs: Sequence[Job]) -> set[UUID]:
        """Put the tasks on record as waiting; return those to publish: none that has ended or has a worker."""
        answer = await self._supabase.call("outlast_requeue", {"p_jobs": [task_row(job) for job in jobs]})
        return {UUID(task_id) for task_id in answer["publish"]}

    async def mark_failed(self, letters: Sequence[dict[str, Any]]) -> set[UUID]:
        """End tasks that no message will end: `task_id`, `code` and `error` each; return those that were changed."""
        answer = await self._supabase.call("outlast_bury", {"p_letters": list(letters)})
        return {UUID(task_id) for task_id in answer["changed"]}

    async def claim_slot(self, name: str, every_seconds: float, worker: str) -> bool:
        """Whether it is for this worker to do the work called `name` now: once for each slot of so many seconds."""
        answer = await self._supabase.call(
            "outlast_turn", {"p_name": name, "p_every_seconds": max(1, round(every_seconds)), "p_worker": worker}
        )
        return bool(answer["mine"])

    async def expire_archive(self) -> None:
        """Remove what the archive of discarded dead letters has kept long enough."""
        await self._supabase.call("outlast_archive", {"p_letters": [], "p_keep_seconds": 0})
