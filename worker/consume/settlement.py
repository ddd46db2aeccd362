"""How an attempt ends: record it in the database, publish the next message, ack. The order prevents lost work.

    done:        finish(completed)                       -> ack
    retry:       finish(retrying, files stored so far)   -> publish to a retry queue     -> ack
    dead letter: publish to the dead letters             -> finish(failed or partial)    -> ack
    dead links of a job of `outlast adopt`:                 finish(failed or partial)    -> ack

Every publish is confirmed before the next step. A crash between two steps repeats work, which is idempotent.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import structlog

from handlers.errors import (
    DatabaseUnavailableError,
    FileProcessingError,
    GenerationNotFoundError,
    RowRejectedError,
    StorageUnavailableError,
)
from handlers.pipeline import failed_file
from handlers.retries import Retries
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import Job
from schemas.tasks import BeginReply, FinishReply, TaskStatus
from worker.broker.envelope import Envelope
from worker.consume.context import WorkerContext
from worker.consume.delivery import Delivery
from worker.consume.retry_policy import GiveUp, Retry, decide, longest_delay, stable_random

log = structlog.stdlib.get_logger(__name__)
BEGIN_SECONDS: Final = 3.0
FINISH_SECONDS: Final = 10.0
"""How long requests to an unavailable database are repeated; longer for `finish`, so that no finished work is lost."""


def _database_retries(seconds: float) -> Retries:
    return Retries(
        lambda error: isinstance(error, DatabaseUnavailableError), attempts=None, timeout=seconds, wait_max=1.0
    )


_begin_retries = _database_retries(BEGIN_SECONDS)
_finish_retries = _database_retries(FINISH_SECONDS)

LINK_CODES: Final = frozenset({"source_gone", "source_forbidden", "source_unavailable"})
"""Codes of files that cannot be fetched. For `outlast adopt` they are expected, and no dead letters."""
OBJECT_REFUSED: Final = frozenset({"object_deleting", "object_differs"})
"""States of `outlast_finish` that record nothing, and leave the lease: an object must be uploaded again."""
DEAD_LINKS: Final = "dead_links"
"""The outcome of a job of `outlast adopt` of which all failed files have one of LINK_CODES."""


class Settlement:
    """The lease of one attempt, the files it has stored so far, and all ways in which it can end.

    The methods that end the attempt return its outcome, a label of the metrics.
    """

    def __init__(self, delivery: Delivery, envelope: Envelope, context: WorkerContext) -> None:
        self.lease: UUID = uuid4()
        self.leased = False
        self.stored: list[ProcessedFile] = []
        self._delivery = delivery
        self._envelope = envelope
        self._context = context

    async def begin(self) -> BeginReply:
        """Request the task's lease. The reply's `state` says whether to run, and if not, why."""
        context, envelope = self._context, self._envelope
        reply = await _begin_retries(context.records.begin, envelope.job, self.lease, context.worker, envelope.attempt)
        context.circuit.record_success("database_unavailable")
        self.leased = reply.state == "run"
        return reply

    async def record_result(self) -> str:
        """Record FAL's error, or an output without files, on the generation's row if its binding wants it, then ack.

        Raises:
            GenerationNotFoundError, RowRejectedError, DatabaseUnavailableError: it could not be recorded this time.
        """
        job = self._envelope.job
        state = await _begin_retries(self._context.records.fal_result, job)
        self._context.circuit.record_success("database_unavailable")
        if state == "no_generation":
            raise GenerationNotFoundError(f"no generation has the request id {job.request_id}")
        if state.startswith("rejected"):
            raise RowRejectedError(f"the generation's row refuses FAL's result: {state}")
        log.info("FAL's result without files", request_id=job.request_id, row=state)
        return await self.ack("completed")

    async def replace_with(self, jobs: Sequence[Job]) -> str:
        """Publish the jobs for the files of FAL's result, cancel the task of this job, which has no files, and ack."""
        await self._delivery.publish(jobs)
        await self._context.records.cancel(self._envelope.job.task_id)
        self.leased = False
        return await self.ack("completed")

    async def settle_files(self, failed: Sequence[FailedFile]) -> str:
        """Settle after the pipeline has run: dead-letter, record, retry what is pending, ack.

        Files that are not retried become dead letters, one for each error code. If all files to retry failed because a
        dependency is unavailable (`uncounted`), the attempt does not count. Skipped files are only recorded.
        """
        recorded, failed = failed, [file for file in failed if not file.is_skipped]
        uncounted = [
            code for code in {file.code for file in failed} if await self._context.circuit.record_failure(code)
        ]
        decisions = {file.source_key: self._decide(file, uncounted=file.code in uncounted) for file in failed}
        dead = [file for file in failed if isinstance(decisions[file.source_key], GiveUp)]
        pending = [file for file in failed if file not in dead]
        letters = [file for file in dead if not (self._envelope.job.is_adopted and file.code in LINK_CODES)]
        for code in dict.fromkeys(file.code for file in letters):
            same = [file for file in letters if file.code == code]
            await self._delivery.dead_letter(self._envelope, same[0], [file.source_key for file in same])
        status = TaskStatus.RETRYING if pending else _final_status(len(self.stored), len(failed))
        reply = await self._finish(status, recorded)
        if reply.state == "lost":
            return await self.delay("lost")
        if reply.state == "cancelled":
            return await self.ack("cancelled")
        if pending:
            delay = longest_delay([decision for decision in decisions.values() if isinstance(decision, Retry)])
            counted = any(file.code not in uncounted for file in pending)
            return await self._retry(pending[0], [file.source_key for file in pending], delay, counted=counted)
        return await self._ack_ended(DEAD_LINKS if dead and not letters else reply.status)

    async def ack_recorded(self, reply: BeginReply) -> str:
        """Acknowledge a job that `outlast_begin` has completed, because all of its files were known."""
        self._note_refused_row(reply.row_rejected)
        return await self._ack_ended(reply.status)

    async def _ack_ended(self, outcome: str | None) -> str:
        age = datetime.now(UTC) - self._envelope.job.event_at
        self._context.metrics.job_age.observe(age.total_seconds())
        return await self.ack(outcome or TaskStatus.COMPLETED)

    async def job_failed(self, error: FileProcessingError) -> str:
        """Settle after an error of the whole job: retry all of its files, or make the job a dead letter."""
        self._context.metrics.error(error.code)
        uncounted = await self._context.circuit.record_failure(error.code)
        decision = self._decide(error, uncounted=uncounted)
        write_log = log.warning if isinstance(decision, Retry) else log.error
        write_log(
            "job failed", code=error.code, error=str(error), decision=type(decision).__name__, uncounted=uncounted
        )
        if isinstance(decision, Retry):
            await self._record_failure(TaskStatus.RETRYING, error)
            keys = [file.source_key for file in self._envelope.job.files]
            return await self._retry(error, keys, decision.delay, counted=not uncounted)
        await self._delivery.dead_letter(self._envelope, error)
        await self._record_failure(TaskStatus.FAILED, error)
        return await self.ack("failed")

    async def worker_killed(self) -> str:
        """Make a dead letter of a job whose deliveries keep ending without ack.

        The broker's delivery limit does not cover this case, because it counts each published message separately.
        """
        job, deaths = self._envelope.job, self._envelope.deaths
        message = f"{deaths} deliveries ended without ack: this job probably crashes its worker"
        error = FileProcessingError(message, code="worker_killed")
        await self._delivery.dead_letter(self._envelope, error)
        try:
            await self._context.reconcile_records.mark_failed(
                [{"task_id": str(job.task_id), "code": error.code, "error": message}]
            )
        except FileProcessingError as database_error:
            log.warning("task not marked as failed; the next sweep marks it", code=database_error.code)
        return await self.ack("failed")

    async def requeue(self) -> str:
        """Return the job to its queue at shutdown, after recording the stored files. The attempt does not count."""
        if self.leased:
            try:
                await self._record_early_end(TaskStatus.RETRYING, [])
            except FileProcessingError as database_error:
                log.warning("stored files not recorded; the next attempt finds them", code=database_error.code)
        await self._delivery.requeue(self._envelope)
        return "requeued"

    async def delay(self, outcome: str, seconds: float = 0.0) -> str:
        """Have the same attempt delivered again after the first of RETRY_DELAYS from `seconds` on, or the last."""
        await self._delivery.delay(self._envelope, self._context.policy.delay_at_least(seconds))
        return outcome

    async def ack(self, outcome: str) -> str:
        """Send the result if a Celery producer waits for it, then ack the message."""
        await self._context.send_result(self._envelope.job)
        await self._delivery.ack()
        return outcome

    def _decide(self, failure: FailedFile | FileProcessingError, *, uncounted: bool) -> Retry | GiveUp:
        policy = self._context.policy
        if uncounted:
            return Retry(policy.delays[0])
        if self._envelope.job.is_adopted and failure.code == "source_gone":
            return GiveUp()  # what was not there for so long does not come any more
        attempt = self._envelope.attempt
        return decide(failure, attempt, policy, stable_random(self._envelope.job.task_id, attempt))

    async def _retry(
        self, failure: FailedFile | FileProcessingError, keys: Sequence[str], delay: int, *, counted: bool
    ) -> str:
        following = self._envelope.next_attempt(self._envelope.job.limited_to(keys), counted=counted)
        await self._delivery.retry(following, delay, failure)
        return "retried" if counted else "retried_uncounted"

    async def _finish(self, status: TaskStatus, failed: Sequence[FailedFile]) -> FinishReply:
        """Record files and task in one transaction.

        Raises:
            DatabaseUnavailableError: the database did not answer for FINISH_SECONDS.
            RowRejectedError: the database refuses what is recorded.
            StorageUnavailableError: an object of this job must be uploaded again.
        """
        job = self._envelope.job
        finish = self._context.records.finish
        reply = await _finish_retries(finish, job, self.lease, status, self.stored, list(failed))
        if reply.state in OBJECT_REFUSED:
            self.stored.clear()  # so that the failure can be recorded, which releases the lease
        if reply.state == "object_deleting":
            raise StorageUnavailableError("an object of this job is being deleted")
        if reply.state == "object_differs":
            raise StorageUnavailableError("an object of this job in Storage differs from the one that was uploaded")
        self._note_refused_row(reply.row_rejected)
        self.leased = False
        return reply

    def _note_refused_row(self, reason: str | None) -> None:
        if reason:
            self._context.metrics.error(RowRejectedError.default_code)
            log.warning("the row refused its media; the files are recorded", reason=reason)

    async def _record_failure(self, status: TaskStatus, error: FileProcessingError) -> None:
        """Record the stored files as stored and the others as failed, if this attempt has the lease.

        An unavailable database is ignored: the lease expires, and the retried message or the dead letter has the rest.
        """
        if not self.leased:
            return
        stored = {file.source_key for file in self.stored}
        failed = [failed_file(file, error, "job") for file in self._envelope.job.files if file.source_key not in stored]
        try:
            await self._record_early_end(status, failed)
        except RowRejectedError:
            log.warning("the attempt is recorded without its files, which the database refuses", status=status)
            await self._end_without_files(status, failed)
        except FileProcessingError as database_error:
            log.warning("the attempt was not recorded in the database", code=database_error.code, status=status)

    async def _record_early_end(self, status: TaskStatus, failed: list[FailedFile]) -> None:
        """Record a failed or interrupted attempt: without its stored files if the database refuses an object."""
        finish, job = self._context.records.finish, self._envelope.job
        reply = await finish(job, self.lease, status, self.stored, failed)
        if reply.state in OBJECT_REFUSED:
            await finish(job, self.lease, status, [], failed)  # releases the lease

    async def _end_without_files(self, status: TaskStatus, failed: Sequence[FailedFile]) -> None:
        """Record the status and one failed file, so that the sweep does not take the task for one without a worker."""
        try:
            await self._context.records.finish(self._envelope.job, self.lease, status, [], list(failed[:1]))
        except FileProcessingError as database_error:
            log.warning("the attempt was not recorded in the database", code=database_error.code, status=status)


def _final_status(stored: int, failed: int) -> TaskStatus:
    if not failed:
        return TaskStatus.COMPLETED
    return TaskStatus.PARTIAL if stored else TaskStatus.FAILED
