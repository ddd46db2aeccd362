"""What Python, HTTP and the command line share: tasks are submitted, looked at and cancelled."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog
from pydantic import ValidationError

from handlers.database.client import Supabase
from handlers.database.reconcile_records import ReconcileRecords
from handlers.database.task_queries import TaskQueries
from handlers.database.task_records import TaskRecords
from handlers.errors import FileProcessingError
from handlers.pipeline.batch import job_for
from handlers.settings import MediaSettings
from schemas.jobs import Job
from schemas.submissions import Submission
from schemas.tasks import TaskState, TaskStatus, WorkerStats
from worker.broker import broadcast
from worker.broker.connection import Broker, BrokerUnavailableError
from worker.broker.envelope import Envelope
from worker.broker.errors import PUBLISH_SECONDS

log = structlog.stdlib.get_logger(__name__)
NOT_QUEUED: Final = "it was never put on its queue: submit it again"


class InvalidSubmissionError(ValueError):
    """The submission cannot be taken as it is; nothing was enqueued. `code` is stable."""

    def __init__(self, message: str, code: str = "invalid_submission") -> None:
        super().__init__(message)
        self.code = code


class KeyReusedError(RuntimeError):
    """The idempotency key stands for another submission."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A submitted task; `again` where this very submission had been taken before."""

    task_id: UUID
    again: bool


class TaskService:
    """Takes submissions to database and broker. Without a broker, it can only tell.

    Every method raises DatabaseUnavailableError when the database gives no answer.
    """

    def __init__(self, settings: MediaSettings, supabase: Supabase, broker: Broker | None = None) -> None:
        self._settings = settings
        self._supabase = supabase
        self._broker = broker
        self.records = TaskQueries(supabase)

    async def submit(self, submission: Submission, key: str | None = None) -> Receipt:
        """Put a task on record, then on its queue; the same files, profile and generation are the same task.

        One that waits, runs or is completed already stays as it is; one that ended otherwise begins anew.

        Raises:
            InvalidSubmissionError: too many files, or too much data in them.
            KeyReusedError: `key` was given with another submission.
            BrokerUnavailableError: nothing was enqueued; submit again.
        """
        job = job_of(submission, self._settings)
        said = await self.records.submit(job, key, None if key is None else submission.fingerprint)
        if said.state == "conflict":
            raise KeyReusedError(f"the idempotency key stands for another submission (task {said.task_id})")
        if said.status is TaskStatus.QUEUED:
            await self._publish(job)
        return Receipt(said.task_id, again=said.state == "again")

    async def state(self, task_id: UUID) -> TaskState | None:
        """Return the task's state; None when it is not on record."""
        return (await self.records.states([task_id])).get(task_id)

    async def cancel(self, task_id: UUID) -> bool:
        """Cancel a task, also one not known yet; return whether it is cancelled now: one that has ended stays."""
        return await broadcast.cancel(task_id, TaskRecords(self._settings, self._supabase), self._connected())

    async def workers(self) -> WorkerStats:
        """Return the workers heard of within a minute, and what they run."""
        return await self.records.workers()

    async def _publish(self, job: Job) -> None:
        """Put the job on its queue. What cannot be put there does not stand on record as waiting."""
        try:
            await self._connected().publish_job(Envelope(job), PUBLISH_SECONDS)
        except BrokerUnavailableError:
            letter = {"task_id": str(job.task_id), "code": "not_queued", "error": NOT_QUEUED}
            try:
                await ReconcileRecords(self._supabase).mark_failed([letter])
            except FileProcessingError as unheard:
                log.warning("the database was not told", code=unheard.code, task_id=str(job.task_id))
            raise

    def _connected(self) -> Broker:
        if self._broker is None:
            raise BrokerUnavailableError("this desk has no broker")
        return self._broker


def job_of(submission: Submission, settings: MediaSettings) -> Job:
    """Return the job that a submission asks for; raise InvalidSubmissionError when it holds too much."""
    options = submission.task_options
    asked = options.model_dump(include={"quality", "format"}, exclude_none=True)
    profile = settings.profile.model_copy(update=asked)
    count, limit = len(submission.urls), settings.max_batch_size
    if count > limit:
        raise InvalidSubmissionError(f"{count} urls; at most {limit} (MAX_BATCH_SIZE)", "batch_too_large")
    job = job_for(
        submission.urls,
        submission.user_id,
        submission.generation_id,
        options.max_concurrent,
        settings,
        profile,
    ).model_copy(update={"queue": options.work_queue})
    try:
        Envelope(job).message()
    except ValueError as error:
        raise InvalidSubmissionError(str(error), "task_too_large") from None
    return job


def read_submission(**fields: Any) -> Submission:  # noqa: ANN401 - whatever a caller gives
    """Read a submission; raise InvalidSubmissionError that names every field that is wrong."""
    try:
        return Submission.model_validate(fields)
    except ValidationError as error:
        raise InvalidSubmissionError(told(error)) from None


def told(error: ValidationError) -> str:
    """Say which fields are wrong and how, without their values, which may be long or secret."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(map(str, problem["loc"])) or "body"
        said = "is not known" if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"{place}: {said}")
    return "; ".join(lines)
