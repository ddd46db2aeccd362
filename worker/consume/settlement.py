"""How an attempt is settled: recorded, published, acknowledged. The order keeps Outlast from losing or doubling work.

    retry: finish(retrying, what is stored so far) -> publish to the ladder, confirmed -> ack
    dead:  publish to the dead letters, confirmed  -> finish(failed or partial)        -> ack

A crash between any two of them repeats work that is idempotent, and loses none.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import stamina
import structlog

from handlers.database.reconcile_records import ReconcileRecords
from handlers.database.task_records import TaskRecords
from handlers.errors import DatabaseUnavailableError, FileProcessingError, StorageUnavailableError
from handlers.pipeline import failed_file
from handlers.pipeline.steps import PipelineDeps
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import Job
from schemas.tasks import BeginReply, FinishReply, TaskStatus
from worker.broker.envelope import Envelope
from worker.consume.circuit import Circuit
from worker.consume.delivery import Delivery
from worker.consume.progress import ProgressWriter
from worker.consume.retry_policy import GiveUp, Retry, RetryPolicy, decide, longest_delay, stable_random
from worker.observability.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)
BEGIN_SECONDS: Final = 3.0
FINISH_SECONDS: Final = 10.0
"""How long a database that gives no answer is asked again: a moment before it is judged, longer for finished work."""


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What every attempt of a worker shares.

    `send_result` tells who waits for a job's result. In seconds, `time_limit` bounds an attempt, `soft_limit` its beginning
    of files.
    """

    records: TaskRecords
    reconcile_records: ReconcileRecords
    deps: PipelineDeps
    policy: RetryPolicy
    metrics: Metrics
    circuit: Circuit
    worker: str
    progress_writer: ProgressWriter
    send_result: Callable[[Job], Awaitable[None]]
    max_concurrent: int
    time_limit: float
    soft_limit: float


class Settlement:
    """One attempt's lease, what it has stored so far, and every way for it to end. Methods return the outcome."""

    def __init__(self, delivery: Delivery, envelope: Envelope, context: WorkerContext) -> None:
        self.lease: UUID = uuid4()
        self.leased = False
        self.stored: list[ProcessedFile] = []
        self._delivery = delivery
        self._envelope = envelope
        self._context = context

    async def begin(self) -> BeginReply:
        """Take the task, or learn why not; a database that is away for a moment costs no attempt."""
        context, envelope = self._context, self._envelope
        async for trial in _patiently(BEGIN_SECONDS):
            with trial:
                reply = await context.records.begin(envelope.job, self.lease, context.worker, envelope.attempt)
        context.circuit.record_success("database_unavailable")
        self.leased = reply.state == "run"
        return reply

    async def settle_files(self, failed: Sequence[FailedFile]) -> str:
        """Bury what is hopeless, record what is known, put off what is pending, ack."""
        excused = [code for code in {file.code for file in failed} if await self._context.circuit.is_outage(code)]
        decisions = {file.source_key: self._judge(file, file.code in excused) for file in failed}
        dead = [file for file in failed if isinstance(decisions[file.source_key], GiveUp)]
        pending = [file for file in failed if file not in dead]
        for code in dict.fromkeys(file.code for file in dead):
            same = [file for file in dead if file.code == code]
            await self._delivery.dead_letter(self._envelope, same[0], [file.source_key for file in same])
        reply = await self._finish(TaskStatus.RETRYING if pending else _final(len(self.stored), len(failed)), failed)
        if reply.state == "lost":
            return await self.delay("lost")
        if reply.state == "cancelled":
            return await self.ack("cancelled")
        if pending:
            delay = longest_delay([decision for decision in decisions.values() if isinstance(decision, Retry)])
            counted = any(file.code not in excused for file in pending)
            return await self._again(pending[0], [file.source_key for file in pending], delay, counted=counted)
        age = datetime.now(UTC) - self._envelope.job.event_at
        self._context.metrics.job_age.observe(age.total_seconds())
        return await self.ack(reply.status or TaskStatus.COMPLETED)

    async def job_failed(self, error: FileProcessingError) -> str:
        """Retry or bury the job as it came; what the database can be told of it, it is told in the same order."""
        self._context.metrics.error(error.code)
        excused = await self._context.circuit.is_outage(error.code)
        decision = self._judge(error, excused)
        say = log.warning if isinstance(decision, Retry) else log.error
        say("job failed", code=error.code, error=str(error), decision=type(decision).__name__, excused=excused)
        if isinstance(decision, Retry):
            await self._note_down(TaskStatus.RETRYING, error)
            keys = [file.source_key for file in self._envelope.job.files]
            return await self._again(error, keys, decision.delay, counted=not excused)
        await self._delivery.dead_letter(self._envelope, error)
        await self._note_down(TaskStatus.FAILED, error)
        return await self.ack("failed")

    async def worker_killed(self) -> str:
        """Bury a job whose workers keep dying; the broker's delivery limit alone would not see it."""
        job, deaths = self._envelope.job, self._envelope.deaths
        said = f"{deaths} deliveries ended without an answer: this job seems to kill its worker"
        error = FileProcessingError(said, code="worker_killed")
        await self._delivery.dead_letter(self._envelope, error)
        try:
            await self._context.reconcile_records.mark_failed(
                [{"task_id": str(job.task_id), "code": error.code, "error": said}]
            )
        except FileProcessingError as error:
            log.warning("the database was not told; the sweep will", code=error.code)
        return await self.ack("failed")

    async def requeue(self) -> str:
        """Return the job at once with the attempt it had, what is stored so far recorded."""
        if self.leased:
            try:
                await self._context.records.finish(self._envelope.job, self.lease, TaskStatus.RETRYING, self.stored, [])
            except FileProcessingError as error:
                log.warning("the database was not told", code=error.code)
        await self._delivery.requeue(self._envelope)
        return "handed_back"

    async def delay(self, outcome: str, seconds: float = 0.0) -> str:
        """Have the same attempt again after at least so many seconds."""
        await self._delivery.delay(self._envelope, self._context.policy.delay_at_least(seconds))
        return outcome

    async def ack(self, outcome: str) -> str:
        """Be done with the message, once whoever waits for the result has been told."""
        await self._context.send_result(self._envelope.job)
        await self._delivery.ack()
        return outcome

    def _judge(self, failure: FailedFile | FileProcessingError, excused: bool) -> Retry | GiveUp:  # noqa: FBT001 - it is the question
        policy = self._context.policy
        if excused:
            return Retry(policy.delays[0])
        attempt = self._envelope.attempt
        return decide(failure, attempt, policy, stable_random(self._envelope.job.task_id, attempt))

    async def _again(
        self, failure: FailedFile | FileProcessingError, keys: Sequence[str], delay: int, *, counted: bool
    ) -> str:
        again = self._envelope.next_attempt(self._envelope.job.limited_to(keys), counted=counted)
        await self._delivery.retry(again, delay, failure)
        return "retried" if counted else "excused"

    async def _finish(self, status: TaskStatus, failed: Sequence[FailedFile]) -> FinishReply:
        """Record the attempt; a database that is away for a moment does not cost the work."""
        job = self._envelope.job
        async for trial in _patiently(FINISH_SECONDS):
            with trial:
                reply = await self._context.records.finish(job, self.lease, status, self.stored, list(failed))
        if reply.state == "object_deleting":
            raise StorageUnavailableError("an object of this job is being deleted")
        if reply.state == "object_differs":
            self.stored.clear()
            raise StorageUnavailableError("Storage does not have an object of this job as it was sent")
        self.leased = False
        return reply

    async def _note_down(self, status: TaskStatus, error: FileProcessingError) -> None:
        """Record what is stored and that the rest failed, if the task is ours and the database answers.

        If not, nothing is lost: the lease runs out, and the message, retried or buried, tells the rest.
        """
        if not self.leased:
            return
        job = self._envelope.job
        done = {file.source_key for file in self.stored}
        failed = [failed_file(file, error, "job") for file in job.files if file.source_key not in done]
        try:
            await self._context.records.finish(job, self.lease, status, self.stored, failed)
        except FileProcessingError as database_error:
            log.warning("the attempt was not recorded in the database", code=database_error.code, status=status)


def _patiently(seconds: float) -> AsyncIterator[stamina.Attempt]:
    """Yield trials for as long as the database gives no answer, at most so many seconds."""
    return stamina.retry_context(on=DatabaseUnavailableError, attempts=None, timeout=seconds, wait_max=1.0).__aiter__()


def _final(stored: int, failed: int) -> TaskStatus:
    if not failed:
        return TaskStatus.COMPLETED
    return TaskStatus.PARTIAL if stored else TaskStatus.FAILED
