"""One attempt at a job: read the message, begin, run the pipeline, settle. `settlement.py` keeps the order of that."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog

from handlers.errors import FileProcessingError, GenerationNotFoundError
from handlers.pipeline import process, unexpected_error
from handlers.pipeline.steps import Batch
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import JobFile
from schemas.tasks import BeginReply
from worker.broker.envelope import Envelope, UndecodableError
from worker.broker.topology import DELIVERY_LIMIT
from worker.consume.attempt_log import AttemptLog
from worker.consume.delivery import Delivery, LostDeliveryError
from worker.consume.progress import TaskProgress
from worker.consume.settlement import Settlement, WorkerContext
from worker.observability import tracing

log = structlog.stdlib.get_logger(__name__)
NO_FILES: Final = "FAL could not put the result into its webhook; replay this letter to fetch it from FAL's queue API"
FAILED_OUTCOMES: Final = frozenset({"failed", "partial", "retried", "excused"})
StopReason = Literal["shutdown", "cancelled", "lost", "timed_out"]


class Attempt:
    """Works on one delivery. `stop` ends it early; what that means depends on the reason."""

    def __init__(self, delivery: Delivery, context: WorkerContext) -> None:
        self.envelope: Envelope | None = None
        self.settlement: Settlement | None = None
        self.started = time.monotonic()
        self.delivery = delivery
        self._context = context
        self._settling = False
        self._account = AttemptLog()
        self._facts: dict[str, Any] = {}
        self._stopped: StopReason | None = None
        self._task: asyncio.Task[str] | None = None

    @property
    def leased(self) -> Settlement | None:
        """The settlement of an attempt that holds its task's lease."""
        return self.settlement if self.settlement is not None and self.settlement.leased else None

    def log_fields(self) -> dict[str, Any]:
        """Return what this attempt did, for its line in the log."""
        return {**self._facts, **self._account.log_fields()}

    def stop(self, why: StopReason) -> None:
        """Interrupt the work: hand the job back (shutdown), drop it (cancelled), put it off (lost), fail (timed_out).

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
            envelope = Envelope.read(self.delivery.message)
        except UndecodableError as error:
            await self.delivery.dead_letter_undecodable(error)
            return "undecodable"
        job, queue = envelope.job, envelope.job.queue.value
        bound: dict[str, Any] = {
            "task_id": str(job.task_id),
            "generation_id": job.generation_id or "",
            "attempt": envelope.attempt,
        }
        self._facts = {"user_id": job.user_id, "replays": envelope.replays}
        with tracing.span(f"process {queue}", "consumer", envelope.traceparent, envelope.links, bound):
            structlog.contextvars.bind_contextvars(**bound, **tracing.log_context())
            self.envelope = replace(envelope, links=tracing.current_links() or envelope.links)
            outcome = await self._begin(self.envelope)
            tracing.set_attributes({"outcome": outcome, **({"error": outcome} if outcome in FAILED_OUTCOMES else {})})
        return outcome

    async def _begin(self, envelope: Envelope) -> str:
        """Judge from the message alone whether there is work to do now, then do it."""
        settlement = self.settlement = Settlement(self.delivery, envelope, self._context)
        if envelope.deaths >= DELIVERY_LIMIT:
            return await settlement.worker_killed()
        early = _seconds_until(envelope.job.not_before)
        if early > 0:
            return await settlement.delay("early", early)
        return await self._interruptible(envelope, settlement)

    async def _interruptible(self, envelope: Envelope, settlement: Settlement) -> str:
        self._task = asyncio.create_task(self._work(envelope, settlement))
        alarm = asyncio.get_running_loop().call_later(self._context.time_limit, self.stop, "timed_out")
        try:
            return await self._task
        except asyncio.CancelledError:
            if self._stopped is None:
                self._task.cancel()
                raise
        finally:
            alarm.cancel()
        return await self._end_early(settlement, self._stopped)

    async def _end_early(self, settlement: Settlement, why: StopReason) -> str:
        if why == "cancelled":
            return await settlement.ack("cancelled")
        if why == "lost":
            return await settlement.delay("lost")
        if why == "shutdown":
            return await settlement.requeue()
        said = (
            f"not done within {self._context.time_limit:.0f} s (TASK_TIMEOUT_MINUTES, BROKER_CONSUMER_TIMEOUT_MINUTES)"
        )
        return await self._job_failed(settlement, FileProcessingError(said, code="timed_out", retryable=True))

    async def _job_failed(self, settlement: Settlement, error: FileProcessingError) -> str:
        self._account.failed(error.code)
        return await settlement.job_failed(error)

    async def _work(self, envelope: Envelope, settlement: Settlement) -> str:
        """Begin, process, settle; whatever goes wrong there is judged for the job as a whole."""
        try:
            with tracing.span("begin"):
                reply = await settlement.begin()
            self._learn(envelope, reply)
            failed = await self._process(envelope, settlement, reply)
            self._settling = True
            if reply.state == "run":
                with tracing.span("settle"):
                    return await settlement.settle_files(failed)
        except LostDeliveryError:
            raise
        except FileProcessingError as error:
            self._settling = True
            return await self._job_failed(settlement, error)
        except Exception as error:
            self._settling = True
            log.exception("unexpected error")
            return await self._job_failed(settlement, unexpected_error(error))
        if reply.state == "busy":
            return await settlement.delay("busy", reply.retry_after)
        return await settlement.ack("duplicate" if reply.state == "done" else "cancelled")

    async def _process(self, envelope: Envelope, settlement: Settlement, reply: BeginReply) -> list[FailedFile]:
        """Run the pipeline over what is not stored yet; return what failed, keep what is stored."""
        job = envelope.job
        if reply.state == "no_generation":
            raise GenerationNotFoundError(f"no generation has the request id {job.request_id}")
        if reply.state != "run":
            return []
        if not job.files:
            raise FileProcessingError(NO_FILES, code="no_files")
        before = {file.source_key for file in reply.files}
        pending = tuple(file for file in job.files if file.source_key not in before)
        task_progress = self._account.task_progress = TaskProgress(
            job.task_id, settlement.lease, reply.total, reply.stored
        )
        batch = Batch(
            files=pending,
            user_id=reply.user_id or job.user_id,
            generation_id=reply.generation_id or job.generation_id or "",
            profile=job.profile,
            max_concurrent=job.max_concurrent or self._context.max_concurrent,
            on_progress=self._account.received,
            may_start=lambda: time.monotonic() - self.started < self._context.soft_limit,
            hooks=self._account,
            sees_storage=reply.sees_storage,
        )
        self._context.progress_writer.add(task_progress)
        try:
            return (await process(batch, self._context.deps, self._note)).failed
        finally:
            self._context.progress_writer.remove(task_progress)

    def _learn(self, envelope: Envelope, reply: BeginReply) -> None:
        """Tell from here on whose work it is: FAL's webhook knows neither generation nor user."""
        job = envelope.job
        known = {"generation_id": reply.generation_id or job.generation_id, "user_id": reply.user_id or job.user_id}
        self._facts.update(known)
        structlog.contextvars.bind_contextvars(generation_id=known["generation_id"])

    async def _note(self, file: JobFile, result: ProcessedFile | FailedFile) -> None:
        self._account.ended(file, result)
        if not isinstance(result, ProcessedFile) or self.settlement is None:
            return
        self.settlement.stored.append(result)
        if not result.deduplicated:
            self._context.circuit.record_success("storage_unavailable")
            self._context.circuit.record_success("disk_full")


def _seconds_until(moment: datetime | None) -> float:
    return 0.0 if moment is None else (moment - datetime.now(UTC)).total_seconds()
