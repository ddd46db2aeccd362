"""What the database knows of tasks, asked by those who submit and watch them."""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from handlers.database.client import Supabase
from handlers.database.task_records import task_row
from handlers.errors import DatabaseUnavailableError
from schemas.jobs import Job
from schemas.tasks import SubmitReply, TaskState, WorkerStats

T = TypeVar("T")
STATES: TypeAdapter[list[TaskState]] = TypeAdapter(list[TaskState])
SUBMITTED: TypeAdapter[SubmitReply] = TypeAdapter(SubmitReply)
WORKERS: TypeAdapter[WorkerStats] = TypeAdapter(WorkerStats)


class TaskQueries:
    """The task API's functions of `deploy/supabase/migrations`.

    Every method raises DatabaseUnavailableError when the database gives no answer.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def submit(self, job: Job, key: str | None = None, fingerprint: str | None = None) -> SubmitReply:
        """Put a task on record as waiting, unless it waits, runs or is done; or the idempotency key is known."""
        arguments = {"p_job": task_row(job), "p_key": key, "p_fingerprint": fingerprint}
        return _read(SUBMITTED, await self._supabase.call("outlast_submit", arguments))

    async def states(self, task_ids: Sequence[UUID]) -> dict[UUID, TaskState]:
        """Return the states of those tasks that are on record."""
        answer = await self._supabase.call("outlast_states", {"p_task_ids": [str(task_id) for task_id in task_ids]})
        return {state.task_id: state for state in _read(STATES, answer)}

    async def workers(self) -> WorkerStats:
        """Return the workers heard of within a minute, and what they run."""
        return read_workers(await self._supabase.call("outlast_worker_stats", {}))

    async def progress(self, items: Sequence[dict[str, Any]]) -> None:
        """Write down how far running tasks are: `task_id`, `lease` and `progress` each; a lost lease writes nothing."""
        await self._supabase.call("outlast_progress", {"p_items": list(items)})

    async def expire(self, keep_seconds: int) -> int:
        """Remove tasks that ended so long ago (0: none) and other rows nobody needs; return how many tasks."""
        answer = await self._supabase.call("outlast_expire", {"p_keep_seconds": keep_seconds})
        return int(answer["tasks"])


def read_workers(answer: Any) -> WorkerStats:  # noqa: ANN401 - any JSON
    """Read what `outlast_worker_stats` answered."""
    return _read(WORKERS, answer)


def _read(adapter: TypeAdapter[T], answer: Any) -> T:  # noqa: ANN401 - any JSON
    try:
        return adapter.validate_python(answer)
    except ValidationError as error:
        raise DatabaseUnavailableError(
            "the database answered in a form this version does not know: are its migrations applied?"
        ) from error
