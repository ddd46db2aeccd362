"""The SQL functions that submit tasks, return their states, and record their progress."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from handlers.database.client import Supabase
from handlers.database.rpc import parse_answer
from handlers.database.task_records import task_row
from schemas.jobs import Job
from schemas.tasks import SubmitReply, TaskState, WorkerStats

WORKER_STATS: Final = "outlast_worker_stats"


class TaskQueries:
    """The task API's functions of `deploy/supabase/migrations`.

    Every method raises DatabaseUnavailableError when the database does not answer.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def submit(self, job: Job, key: str | None = None, fingerprint: str | None = None) -> SubmitReply:
        """Record a task as queued, unless it has not ended or is completed, or the idempotency `key` is known.

        `fingerprint` identifies the request. A known key with another fingerprint is a conflict.
        """
        arguments = {"p_job": task_row(job), "p_key": key, "p_fingerprint": fingerprint}
        answer = await self._supabase.call("outlast_submit", arguments)
        return parse_answer("outlast_submit", SubmitReply, answer)

    async def states(self, task_ids: Sequence[UUID]) -> dict[UUID, TaskState]:
        """Return the states of the tasks by id. Tasks that are not recorded are left out."""
        answer = await self._supabase.call("outlast_states", {"p_task_ids": [str(task_id) for task_id in task_ids]})
        return {state.task_id: state for state in parse_answer("outlast_states", list[TaskState], answer)}

    async def workers(self) -> WorkerStats:
        """Return the workers with a heartbeat in the last minute, and the tasks they run."""
        return parse_workers(await self._supabase.call(WORKER_STATS, {}))

    async def progress(self, items: Sequence[dict[str, Any]]) -> None:
        """Record the progress of running tasks: `task_id`, `lease` and `progress` each. Lost leases are ignored."""
        await self._supabase.call("outlast_progress", {"p_items": list(items)})

    async def expire(self, keep_seconds: int) -> int:
        """Remove tasks that ended more than `keep_seconds` ago (0: no tasks), and other expired rows.

        One call removes at most 5,000 tasks, and none whose generation's row has no final `media_status`. Returns the
        number of removed tasks.
        """
        answer = await self._supabase.call("outlast_expire", {"p_keep_seconds": keep_seconds})
        return int(answer["tasks"])


def parse_workers(answer: object) -> WorkerStats:
    """Parse the answer of `outlast_worker_stats`."""
    return parse_answer(WORKER_STATS, WorkerStats, answer)
