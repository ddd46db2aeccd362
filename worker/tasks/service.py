"""Submit, read and cancel tasks; used by the Python API, the HTTP API, the command line and the console."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import structlog
from pydantic import ValidationError

from handlers.database.client import Supabase
from handlers.database.reconcile_records import ReconcileRecords
from handlers.database.task_queries import TaskQueries
from handlers.database.task_records import TaskRecords
from handlers.errors import FileProcessingError
from handlers.pipeline.batch import job_from_urls
from handlers.settings import MediaSettings
from schemas.base import field_path, problem_text
from schemas.jobs import Job, task_id_for
from schemas.submissions import Submission
from schemas.tasks import TaskState, TaskStatus, WorkerStats
from worker.broker import broadcast
from worker.broker.connection import Broker
from worker.broker.envelope import Envelope
from worker.broker.errors import PUBLISH_SECONDS, BrokerUnavailableError

log = structlog.stdlib.get_logger(__name__)
NOT_QUEUED: Final = "the job was not published, because RabbitMQ was not available; submit the task again"


class InvalidSubmissionError(ValueError):
    """The submission is invalid, and nothing was enqueued. `code` is stable."""

    def __init__(self, message: str, code: str = "invalid_submission") -> None:
        super().__init__(message)
        self.code = code


class KeyReusedError(RuntimeError):
    """The idempotency key was used for another submission."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A submitted task. `is_repeat`: the same submission was accepted before."""

    task_id: UUID
    is_repeat: bool


class CancelOutcome(StrEnum):
    """`ended`: the task had ended before. `unknown`: no task has this id; a queued job with it will not run."""

    CANCELLED = "cancelled"
    ENDED = "ended"
    UNKNOWN = "unknown"


class TaskService:
    """Records tasks in the database and publishes their jobs. Without a broker, it can only read tasks.

    Every method raises DatabaseUnavailableError if the database does not answer.
    """

    def __init__(self, settings: MediaSettings, supabase: Supabase, broker: Broker | None = None) -> None:
        self._settings = settings
        self._supabase = supabase
        self._broker = broker
        self.records = TaskQueries(supabase)

    async def submit(self, submission: Submission, key: str | None = None) -> Receipt:
        """Record a task, then publish its job. The same files, profile and generation are the same task.

        A failed, partial or cancelled task starts again. Any other task is not changed; if it is queued, its job is
        published again. A repeated `key` returns the task of the first submission, also if the settings give the job
        another profile, and therefore another task id, now; that job is not published.

        Raises:
            InvalidSubmissionError: too many files, or too much data in them.
            KeyReusedError: `key` was used for another submission.
            BrokerUnavailableError: the job was not published; submit the task again.
        """
        job = build_job(submission, self._settings)
        reply = await self.records.submit(job, key, None if key is None else submission.fingerprint)
        if reply.state == "conflict":
            raise KeyReusedError(f"the idempotency key was used for another submission (task {reply.task_id})")
        if reply.status is TaskStatus.QUEUED and reply.task_id == job.task_id:
            await self._publish(job)
        return Receipt(reply.task_id, is_repeat=reply.state == "again")

    async def submit_jobs(self, jobs: Sequence[Job]) -> Counter[TaskStatus]:
        """Record and publish planned jobs, as `submit` does; return the number of tasks by status.

        Raises:
            BrokerUnavailableError: a job was not published; the jobs before it are.
        """
        statuses: Counter[TaskStatus] = Counter()
        for job in jobs:
            reply = await self.records.submit(job)
            if reply.status is TaskStatus.QUEUED:
                await self._publish(job)
            if reply.status is not None:
                statuses[reply.status] += 1
        return statuses

    async def state(self, task_id: UUID) -> TaskState | None:
        """Return the state of a task; None if there is no task with this id."""
        state = (await self.records.states([task_id])).get(task_id)
        return None if state is None or state.is_cancel_marker else state

    async def cancel(self, task_id: UUID) -> CancelOutcome:
        """Cancel a task.

        The tasks of webhooks are recorded when a worker begins them. Therefore an unknown id is marked in the database,
        and its job, if there is one in a queue, is dropped when a worker receives it.
        """
        known = await self.state(task_id) is not None
        records = TaskRecords(self._supabase)
        cancelled = await broadcast.cancel_task(task_id, records, self._require_broker())
        if not cancelled:
            return CancelOutcome.ENDED
        return CancelOutcome.CANCELLED if known else CancelOutcome.UNKNOWN

    async def workers(self) -> WorkerStats:
        """Return the workers that reported within the last minute, and the tasks they run."""
        return await self.records.workers()

    async def _publish(self, job: Job) -> None:
        """Publish the job. If that fails, set the task to failed, so that it does not stay `queued`."""
        try:
            await self._require_broker().publish_job(Envelope(job), PUBLISH_SECONDS)
        except BrokerUnavailableError:
            failure = {"task_id": str(job.task_id), "code": "not_queued", "error": NOT_QUEUED}
            try:
                await ReconcileRecords(self._supabase).mark_failed([failure])
            except FileProcessingError as error:
                log.warning("task not set to failed", code=error.code, task_id=str(job.task_id))
            raise

    def _require_broker(self) -> Broker:
        if self._broker is None:
            raise BrokerUnavailableError("this TaskService was created without a broker, so it can only read tasks")
        return self._broker


def build_job(submission: Submission, settings: MediaSettings) -> Job:
    """Return the job of a submission. Raise InvalidSubmissionError if it has too many files or is too large."""
    options = submission.task_options
    requested = {name: getattr(options, name) for name in ("quality", "format", "variants")}
    overrides: dict[str, Any] = {name: value for name, value in requested.items() if value is not None}
    overrides |= {} if options.quality is None else {"ssim": None}
    profile = settings.profile.model_copy(update=overrides)
    count, limit = len(submission.urls), settings.max_batch_size
    if count > limit:
        raise InvalidSubmissionError(
            f"urls: has {count} entries, more than MAX_BATCH_SIZE ({limit})", "batch_too_large"
        )
    job = job_from_urls(
        submission.urls,
        submission.user_id,
        submission.generation_id,
        options.max_concurrent,
        settings,
        profile,
    )
    job = job.model_copy(
        update={
            "task_id": task_id_for(submission.generation_id, job.files, profile, submission.binding),
            "binding": submission.binding,
            "queue": options.work_queue,
            "own_variants": options.variants is not None,
        }
    )
    try:
        Envelope(job).message()
    except ValueError as error:
        raise InvalidSubmissionError(str(error), "task_too_large") from None
    return job


def read_submission(**fields: Any) -> Submission:  # noqa: ANN401 - validated here
    """Return a validated submission. Raise InvalidSubmissionError, which names every invalid field."""
    try:
        return Submission.model_validate(fields)
    except ValidationError as error:
        raise InvalidSubmissionError(_error_text(error)) from None


def _error_text(error: ValidationError) -> str:
    """Return the invalid fields and their problems, without the values, which may be long or secret."""
    problems = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{field_path(problem['loc']) or 'body'}: {problem_text(problem)}" for problem in problems)
