"""One attempt at a job, from decode to ack. The order of its last steps keeps Outlast from losing or doubling work.

    retry: finish(retrying, what is stored so far) -> publish to the ladder, confirmed -> ack
    dead:  publish to the dead letters, confirmed  -> finish(failed or partial)        -> ack

A crash between any two of them repeats work that is idempotent, and loses none.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

import structlog

from handlers.errors import FileProcessingError, GenerationNotFoundError, StorageUnavailableError
from handlers.pipeline import failed_file, process
from handlers.record import Records
from handlers.steps import Tools, Work
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import JobFile
from schemas.tasks import BeginReply, TaskStatus
from worker.decide import DeadLetter, Policy, Retry, decide, longest
from worker.delivery import Delivery, LostDeliveryError
from worker.envelope import Envelope, UndecodableError
from worker.metrics import Metrics
from worker.topology import DELIVERY_LIMIT

log = structlog.stdlib.get_logger("outlast.worker")

StopReason = Literal["shutdown", "cancelled", "lost"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every attempt of a worker shares."""

    records: Records
    tools: Tools
    policy: Policy
    metrics: Metrics
    worker: str
    max_concurrent: int


class Attempt:
    """Works on one delivery. `stop` ends it early; what that means depends on the reason."""

    def __init__(self, delivery: Delivery, around: Surroundings) -> None:
        self.lease: UUID = uuid4()
        self.envelope: Envelope | None = None
        self.started = time.monotonic()
        self.delivery = delivery
        self._around = around
        self._stored: list[ProcessedFile] = []
        self.leased = False
        self._settling = False
        self._stopped: StopReason | None = None
        self._task: asyncio.Task[str] | None = None

    def stop(self, why: StopReason) -> None:
        """Interrupt the work: hand the job back (shutdown), drop it (cancelled), or put it off (lost lease).

        What is settling already is left to settle: it is a matter of moments, and its order must hold.
        """
        if self._stopped is None and not self._settling and self._task is not None and not self._task.done():
            self._stopped = why
            self._task.cancel()

    async def run(self) -> str:
        """Do everything there is to do about the delivery; return how it ended, for the metric."""
        try:
            return await self._read()
        except LostDeliveryError:
            return "redelivered"

    async def _read(self) -> str:
        try:
            envelope = self.envelope = Envelope.read(self.delivery.message)
        except UndecodableError as error:
            await self.delivery.bury_undecodable(error)
            return "undecodable"
        structlog.contextvars.bind_contextvars(
            task_id=str(envelope.job.task_id), generation_id=envelope.job.generation_id, attempt=envelope.attempt
        )
        if envelope.deaths >= DELIVERY_LIMIT:
            return await self._worker_killed(envelope)
        return await self._interruptible(envelope)

    async def _interruptible(self, envelope: Envelope) -> str:
        self._task = asyncio.create_task(self._work(envelope))
        try:
            return await self._task
        except asyncio.CancelledError:
            if self._stopped is None:
                self._task.cancel()
                raise
        return await self._end_early(envelope, self._stopped)

    async def _worker_killed(self, envelope: Envelope) -> str:
        """Bury a job whose workers keep dying; the broker's delivery limit alone would not see it."""
        said = f"{envelope.deaths} deliveries ended without an answer: this job seems to kill its worker"
        await self.delivery.bury(envelope, FileProcessingError(said, code="worker_killed"))
        return await self._ack("failed")

    async def _work(self, envelope: Envelope) -> str:
        """Begin, process, conclude; whatever goes wrong there is judged for the job as a whole."""
        try:
            reply = await self._around.records.begin(envelope.job, self.lease, self._around.worker, envelope.attempt)
            self.leased = reply.state == "run"
            failed = await self._process(envelope, reply)
            if reply.state == "run":
                return await self._conclude(envelope, failed)
        except LostDeliveryError:
            raise
        except FileProcessingError as error:
            return await self._job_failed(envelope, error)
        except Exception as error:
            log.exception("unexpected error")
            unexpected = FileProcessingError(repr(error)[:500], code="unexpected", retryable=True)
            return await self._job_failed(envelope, unexpected)
        if reply.state == "busy":
            return await self._put_off(envelope, "busy", reply.retry_after)
        return await self._ack("duplicate" if reply.state == "done" else "cancelled")

    async def _process(self, envelope: Envelope, reply: BeginReply) -> list[FailedFile]:
        """Run the pipeline over what is not stored yet; return what failed, keep what is stored."""
        job = envelope.job
        if reply.state == "no_generation":
            raise GenerationNotFoundError(f"no generation has the request id {job.request_id}")
        if reply.state != "run":
            return []
        if not job.files:
            raise FileProcessingError("FAL could not put the result into its webhook; fetch it from FAL's queue API")
        before = {file.source_key for file in reply.files}
        work = Work(
            files=tuple(file for file in job.files if file.source_key not in before),
            user_id=reply.user_id or job.user_id,
            generation_id=reply.generation_id or job.generation_id or "",
            profile=job.profile,
            max_concurrent=job.max_concurrent or self._around.max_concurrent,
        )
        return (await process(work, self._around.tools, self._note)).failed

    async def _note(self, _file: JobFile, result: ProcessedFile | FailedFile) -> None:
        if isinstance(result, ProcessedFile):
            self._stored.append(result)

    async def _conclude(self, envelope: Envelope, failed: Sequence[FailedFile]) -> str:
        """Bury what is hopeless, record what is known, put off what is pending, ack."""
        self._settling = True
        verdicts = {file.source_key: decide(file, envelope.attempt, self._around.policy) for file in failed}
        dead = [file for file in failed if isinstance(verdicts[file.source_key], DeadLetter)]
        pending = [file for file in failed if file not in dead]
        for code in dict.fromkeys(file.code for file in dead):
            same = [file for file in dead if file.code == code]
            await self.delivery.bury(envelope, same[0], [file.source_key for file in same])
        status = TaskStatus.RETRYING if pending else _final(len(self._stored), len(failed))
        reply = await self._around.records.finish(envelope.job, self.lease, status, self._stored, list(failed))
        if reply.state == "object_deleting":
            raise StorageUnavailableError("an object of this job is being deleted")
        self.leased = False
        if reply.state == "lost":
            return await self._put_off(envelope, "lost")
        if reply.state == "cancelled":
            return await self._ack("cancelled")
        if pending:
            job = envelope.job.only([file.source_key for file in pending])
            delay = longest([verdict for verdict in verdicts.values() if isinstance(verdict, Retry)])
            await self.delivery.retry(envelope.again(job), delay, pending[0])
            return "retried"
        self._around.metrics.job_age.observe((datetime.now(UTC) - envelope.job.event_at).total_seconds())
        return await self._ack(reply.status or status)

    async def _job_failed(self, envelope: Envelope, error: FileProcessingError) -> str:
        """Retry or bury the job as it came; what the database can be told of it, it is told in the same order."""
        self._settling = True
        self._around.metrics.error(error.code)
        verdict = decide(error, envelope.attempt, self._around.policy)
        log.warning("job failed", code=error.code, error=str(error), verdict=type(verdict).__name__)
        if isinstance(verdict, Retry):
            await self._note_down(envelope, TaskStatus.RETRYING, error)
            await self.delivery.retry(envelope.again(envelope.job), verdict.delay, error)
            return "retried"
        await self.delivery.bury(envelope, error)
        await self._note_down(envelope, TaskStatus.FAILED, error)
        return await self._ack("failed")

    async def _note_down(self, envelope: Envelope, status: TaskStatus, error: FileProcessingError) -> None:
        """Record what is stored and that the rest failed, if the task is ours and the database answers.

        If not, nothing is lost: the lease runs out, and the message, retried or buried, tells the rest.
        """
        if not self.leased:
            return
        done = {file.source_key for file in self._stored}
        failed = [failed_file(file, error, "job") for file in envelope.job.files if file.source_key not in done]
        try:
            await self._around.records.finish(envelope.job, self.lease, status, self._stored, failed)
        except FileProcessingError as unheard:
            log.warning("the database was not told", code=unheard.code, status=status)

    async def _end_early(self, envelope: Envelope, why: StopReason) -> str:
        if why == "cancelled":
            return await self._ack("cancelled")
        if why == "lost":
            return await self._put_off(envelope, "lost")
        if self.leased:
            try:
                await self._around.records.finish(envelope.job, self.lease, TaskStatus.RETRYING, self._stored, [])
            except FileProcessingError as unheard:
                log.warning("the database was not told", code=unheard.code)
        await self.delivery.hand_back(envelope)
        return "handed_back"

    async def _put_off(self, envelope: Envelope, outcome: str, seconds: float = 0.0) -> str:
        await self.delivery.put_off(envelope, self._around.policy.rung(seconds))
        return outcome

    async def _ack(self, outcome: str) -> str:
        await self.delivery.ack()
        return outcome


def _final(stored: int, failed: int) -> TaskStatus:
    if not failed:
        return TaskStatus.COMPLETED
    return TaskStatus.PARTIAL if stored else TaskStatus.FAILED
