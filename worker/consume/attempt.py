"""One attempt at a job: decode the message, begin, run the pipeline, settle.

Read `Attempt.run` from top to bottom. `settlement.py` defines the order of database, publish and ack.
"""

import asyncio
import contextlib
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

import structlog

from handlers.errors import FileProcessingError, GenerationNotFoundError, RowRejectedError
from handlers.pipeline import process, unexpected_error
from handlers.pipeline.batch import profile_of
from handlers.pipeline.early import EarlyDownload, early_download
from handlers.pipeline.known import report_recorded
from handlers.pipeline.state import Batch
from handlers.pipeline.steps import fetch_source
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import Job, JobFile
from schemas.tasks import BeginReply
from worker.broker.envelope import Envelope, UndecodableError
from worker.broker.topology import DELIVERY_LIMIT
from worker.consume.context import WorkerContext
from worker.consume.delivery import Delivery, LostDeliveryError
from worker.consume.progress import AttemptLog, TaskProgress
from worker.consume.settlement import Settlement
from worker.observability import tracing

log = structlog.stdlib.get_logger(__name__)
SHARED_REQUEST: Final = (
    "several rows have the same request id, so its files belong to none of them; correct the rows and do not let end "
    "users write the column: request id"
)
FAILED_OUTCOMES: Final = frozenset({"failed", "partial", "retried", "retried_uncounted"})
StopReason = Literal["shutdown", "cancelled", "lost", "timed_out"]
"""`lost`: another worker has the task's lease."""


class Attempt:
    """Processes one delivery. `run` returns the outcome, a label of the metrics; `stop` ends it early."""

    def __init__(self, delivery: Delivery, context: WorkerContext) -> None:
        self.envelope: Envelope | None = None
        self.settlement: Settlement | None = None
        self.started = time.monotonic()
        self.delivery = delivery
        self._context = context
        self._settling = False
        self._log = AttemptLog()
        self._job_fields: dict[str, Any] = {}
        self._stopped: StopReason | None = None
        self._task: asyncio.Task[str] | None = None

    @property
    def leased(self) -> Settlement | None:
        """The settlement if it holds the task's lease, else None."""
        return self.settlement if self.settlement is not None and self.settlement.leased else None

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of the attempt's log line."""
        return {**self._job_fields, **self._log.log_fields()}

    def stop(self, reason: StopReason) -> None:
        """Interrupt the pipeline. `_end_early` says what happens to the job.

        An attempt that is already settling is not interrupted: settling is short, and its order must hold.
        """
        if self._stopped is None and not self._settling and self._task is not None and not self._task.done():
            self._stopped = reason
            self._task.cancel()

    async def run(self) -> str:
        """Process the delivery and settle it. Return the outcome."""
        try:
            return await self._decode_and_process()
        except LostDeliveryError:
            return "redelivered"

    async def _decode_and_process(self) -> str:
        """Decode the message, open the attempt's span, process the job within it. Return the outcome."""
        try:
            envelope = Envelope.read(self.delivery.message)
        except UndecodableError as error:
            await self.delivery.dead_letter_undecodable(error)
            return "undecodable"
        job, queue = envelope.job, envelope.job.queue.value
        bound: dict[str, Any] = {
            "task_id": str(job.task_id),
            "binding": job.binding,
            "generation_id": job.generation_id or "",
            "attempt": envelope.attempt,
        }
        self._job_fields = {"user_id": job.user_id, "replays": envelope.replays}
        with tracing.span(f"process {queue}", "consumer", envelope.traceparent, envelope.links, bound):
            structlog.contextvars.bind_contextvars(**bound, **tracing.log_context())
            self.envelope = replace(envelope, links=tracing.current_links() or envelope.links)
            outcome = await self._check_and_process(self.envelope)
            tracing.set_attributes({"outcome": outcome, **({"error": outcome} if outcome in FAILED_OUTCOMES else {})})
        return outcome

    async def _check_and_process(self, envelope: Envelope) -> str:
        """Settle a message that kills workers or that is not due yet; process every other one."""
        settlement = self.settlement = Settlement(self.delivery, envelope, self._context)
        if envelope.deaths >= DELIVERY_LIMIT:
            return await settlement.worker_killed()
        early = _seconds_until(envelope.job.not_before)
        if early > 0:
            return await settlement.delay("early", early)
        return await self._run_interruptible(envelope, settlement)

    async def _run_interruptible(self, envelope: Envelope, settlement: Settlement) -> str:
        """Run the attempt as a task that `stop`, or the time limit, can cancel."""
        self._task = asyncio.create_task(self._process_and_settle(envelope, settlement))
        timer = asyncio.get_running_loop().call_later(self._context.time_limit, self.stop, "timed_out")
        try:
            return await self._task
        except asyncio.CancelledError:
            if self._stopped is None:
                self._task.cancel()
                raise
        finally:
            timer.cancel()
        return await self._end_early(settlement, self._stopped)

    async def _end_early(self, settlement: Settlement, reason: StopReason) -> str:
        """Drop a cancelled job, delay one that another worker has, requeue at shutdown; a time-out is a failure."""
        if reason == "cancelled":
            return await settlement.ack("cancelled")
        if reason == "lost":
            return await settlement.delay("lost")
        if reason == "shutdown":
            return await settlement.requeue()
        limits = "TASK_TIMEOUT_MINUTES, BROKER_CONSUMER_TIMEOUT_MINUTES"
        message = f"the attempt did not end within {self._context.time_limit:.0f} s ({limits})"
        return await self._job_failed(settlement, FileProcessingError(message, code="timed_out", retryable=True))

    async def _job_failed(self, settlement: Settlement, error: FileProcessingError) -> str:
        self._log.failed(error.code)
        return await settlement.job_failed(error)

    async def _process_and_settle(self, envelope: Envelope, settlement: Settlement) -> str:
        """Process and settle the job. An error outside of the pipeline's steps counts as an error of the whole job."""
        try:
            if envelope.job.is_result_only:
                return await settlement.record_result()
            async with self._context.under_way.storing(self._immutable_file(envelope.job)):
                return await self._process(envelope, settlement)
        except LostDeliveryError:
            raise
        except FileProcessingError as error:
            self._settling = True
            return await self._job_failed(settlement, error)
        except Exception as error:
            self._settling = True
            log.exception("unexpected error")
            return await self._job_failed(settlement, unexpected_error(error))

    async def _process(self, envelope: Envelope, settlement: Settlement) -> str:
        """Begin the task, run the pipeline, settle. Return the outcome."""
        async with self._start_download(envelope) as early:
            with tracing.span("begin"):
                reply = await settlement.begin()
            self._log_owner(envelope, reply)
            if reply.state == "run" and not envelope.job.files and not envelope.job.skipped:
                return await self._request_result(envelope, settlement, reply)
            failed = await self._run_pipeline(envelope, settlement, reply, early)
        self._settling = True
        if reply.state == "run":
            with tracing.span("settle"):
                return await settlement.settle_files(failed)
        if reply.state == "recorded":
            return await self._ack_recorded(envelope, settlement, reply)
        if reply.state == "busy":
            return await settlement.delay("busy", reply.retry_after)
        return await settlement.ack("duplicate" if reply.state == "done" else "cancelled")

    def _immutable_file(self, job: Job) -> str | None:
        """Return the name in FilesUnderWay of a job's only file; None unless its URL is immutable and it has a user."""
        if job.user_id is None or len(job.files) != 1 or not self._context.immutable.keys(job.files):
            return None
        return f"{job.user_id} {job.files[0].source_key} {job.profile.key}"

    def _start_download(self, envelope: Envelope) -> AbstractAsyncContextManager[EarlyDownload | None]:
        """Start to download the only file of a new job from Supabase's webhook while its task begins.

        Nothing is started for other jobs, retries and repeated events: they are often done or cancelled already. The
        same holds for a URL that the same user had lately: the file may be known by its URL.
        """
        job, deps = envelope.job, self._context.deps
        is_new = self._context.recent_tasks.add(job.task_id) and envelope.attempt == 1 and not envelope.deaths
        if not is_new or job.source != "supabase" or len(job.files) != 1:
            return contextlib.nullcontext()
        (file,) = job.files
        is_link = file.url.startswith(("https:", "http:"))
        if not is_link or not self._context.recent_sources.add(f"{job.user_id} {file.source_key}"):
            return contextlib.nullcontext()
        on_progress = partial(self._log.received, file)
        fetch = partial(fetch_source, deps, file.url, on_progress=on_progress)
        return early_download(deps.downloader, job.user_id, deps.settings.temp_dir, fetch)

    async def _run_pipeline(
        self, envelope: Envelope, settlement: Settlement, reply: BeginReply, early: EarlyDownload | None
    ) -> list[FailedFile]:
        """Process the files that are not stored yet, if the reply's state is `run`. Return the failed ones.

        Stored files are added to `settlement.stored`.

        Raises:
            GenerationNotFoundError, RowRejectedError: the reply's state says so.
        """
        job = envelope.job
        if reply.state == "no_generation":
            problem = SHARED_REQUEST if reply.shared else "no generation has the request id"
            raise GenerationNotFoundError(f"{problem} {job.request_id}")
        if reply.state == "row_rejected":
            raise RowRejectedError(f"the generation's row refuses FAL's result: {reply.error}")
        if job.skipped and reply.state in {"run", "recorded"}:
            log.info("files skipped", files=len(job.skipped), codes=sorted({file.code for file in job.skipped}))
        if reply.state != "run":
            return []
        stored = {file.source_key for file in reply.files}
        pending = tuple(file for file in job.files if file.source_key not in stored)
        task_progress = self._log.task_progress = TaskProgress(job.task_id, settlement.lease, reply.total, reply.stored)
        batch = Batch(
            files=pending,
            user_id=reply.user_id or job.user_id,
            binding=reply.binding or job.binding,
            generation_id=reply.generation_id or job.generation_id or "",
            profile=profile_of(job, reply),
            max_concurrent=job.max_concurrent or self._context.max_concurrent,
            on_progress=self._log.received,
            may_start=lambda: time.monotonic() - self.started < self._context.soft_limit,
            hooks=self._log,
            sees_storage=reply.sees_storage,
            count_denied=not job.is_adopted,
            bucket=reply.bucket,
            folders=reply.folders,
            early=early,
            known=reply.known,
        )
        self._context.progress_writer.add(task_progress)
        try:
            return (await process(batch, self._context.deps, self._on_file_done)).failed
        finally:
            self._context.progress_writer.remove(task_progress)

    async def _request_result(self, envelope: Envelope, settlement: Settlement, reply: BeginReply) -> str:
        """Request the result from FAL, because the webhook did not contain it. Jobs for its files replace this one."""
        known = {name: getattr(reply, name) for name in ("binding", "generation_id", "user_id")}
        job = envelope.job.model_copy(update={name: value for name, value in known.items() if value is not None})
        jobs = await self._context.request_result(job)
        self._settling = True
        return await settlement.replace_with(jobs)

    async def _ack_recorded(self, envelope: Envelope, settlement: Settlement, reply: BeginReply) -> str:
        """Report the files that the database has recorded already, and ack."""
        report_recorded(reply.files, self._context.deps.observer)
        recorded = {file.source_key: file for file in reply.files}
        for file in envelope.job.files:
            self._log.file_done(file, recorded[file.source_key])
        return await settlement.ack_recorded(reply)

    def _log_owner(self, envelope: Envelope, reply: BeginReply) -> None:
        """Log generation and user from here on: a job from FAL's webhook contains neither, the database has both."""
        job = envelope.job
        owner = {"generation_id": reply.generation_id or job.generation_id, "user_id": reply.user_id or job.user_id}
        self._job_fields.update(owner)
        binding = reply.binding or job.binding
        structlog.contextvars.bind_contextvars(binding=binding, generation_id=owner["generation_id"])

    async def _on_file_done(self, file: JobFile, result: ProcessedFile | FailedFile) -> None:
        self._log.file_done(file, result)
        if not isinstance(result, ProcessedFile) or self.settlement is None:
            return
        self.settlement.stored.append(result)
        if not result.deduplicated:
            self._context.circuit.record_success("storage_unavailable")
            self._context.circuit.record_success("disk_full")


def _seconds_until(moment: datetime | None) -> float:
    return 0.0 if moment is None else (moment - datetime.now(UTC)).total_seconds()
