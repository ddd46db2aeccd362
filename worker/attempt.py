"""One attempt at a job: read the message, begin, run the pipeline, settle. `settlement.py` keeps the order of that."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, Literal

import structlog

from handlers.errors import FileProcessingError, GenerationNotFoundError
from handlers.pipeline import process, unexpected
from handlers.steps import Work
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import JobFile
from schemas.tasks import BeginReply
from worker.delivery import Delivery, LostDeliveryError
from worker.envelope import Envelope, UndecodableError
from worker.progress import Tally
from worker.settlement import Settlement, Surroundings
from worker.topology import DELIVERY_LIMIT

log = structlog.stdlib.get_logger("outlast.worker")
NO_FILES: Final = "FAL could not put the result into its webhook; replay this letter to fetch it from FAL's queue API"
Stop = Literal["shutdown", "cancelled", "lost", "timed_out"]


class Attempt:
    """Works on one delivery. `stop` ends it early; what that means depends on the reason."""

    def __init__(self, delivery: Delivery, around: Surroundings) -> None:
        self.envelope: Envelope | None = None
        self.settlement: Settlement | None = None
        self.started = time.monotonic()
        self.delivery = delivery
        self._around = around
        self._settling = False
        self._tally: Tally | None = None
        self._stopped: Stop | None = None
        self._task: asyncio.Task[str] | None = None

    @property
    def leased(self) -> Settlement | None:
        """The settlement of an attempt that holds its task's lease."""
        return self.settlement if self.settlement is not None and self.settlement.leased else None

    def stop(self, why: Stop) -> None:
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
            envelope = self.envelope = Envelope.read(self.delivery.message)
        except UndecodableError as error:
            await self.delivery.bury_undecodable(error)
            return "undecodable"
        structlog.contextvars.bind_contextvars(
            task_id=str(envelope.job.task_id), generation_id=envelope.job.generation_id, attempt=envelope.attempt
        )
        settlement = self.settlement = Settlement(self.delivery, envelope, self._around)
        if envelope.deaths >= DELIVERY_LIMIT:
            return await settlement.worker_killed()
        early = _seconds_until(envelope.job.not_before)
        if early > 0:
            return await settlement.put_off("early", early)
        return await self._interruptible(envelope, settlement)

    async def _interruptible(self, envelope: Envelope, settlement: Settlement) -> str:
        self._task = asyncio.create_task(self._work(envelope, settlement))
        alarm = asyncio.get_running_loop().call_later(self._around.time_limit, self.stop, "timed_out")
        try:
            return await self._task
        except asyncio.CancelledError:
            if self._stopped is None:
                self._task.cancel()
                raise
        finally:
            alarm.cancel()
        return await self._end_early(settlement, self._stopped)

    async def _end_early(self, settlement: Settlement, why: Stop) -> str:
        if why == "cancelled":
            return await settlement.ack("cancelled")
        if why == "lost":
            return await settlement.put_off("lost")
        if why == "shutdown":
            return await settlement.hand_back()
        said = (
            f"not done within {self._around.time_limit:.0f} s (TASK_TIMEOUT_MINUTES, BROKER_CONSUMER_TIMEOUT_MINUTES)"
        )
        return await settlement.job_failed(FileProcessingError(said, code="timed_out", retryable=True))

    async def _work(self, envelope: Envelope, settlement: Settlement) -> str:
        """Begin, process, settle; whatever goes wrong there is judged for the job as a whole."""
        try:
            reply = await settlement.begin()
            failed = await self._process(envelope, settlement, reply)
            self._settling = True
            if reply.state == "run":
                return await settlement.conclude(failed)
        except LostDeliveryError:
            raise
        except FileProcessingError as error:
            self._settling = True
            return await settlement.job_failed(error)
        except Exception as error:
            self._settling = True
            log.exception("unexpected error")
            return await settlement.job_failed(unexpected(error))
        if reply.state == "busy":
            return await settlement.put_off("busy", reply.retry_after)
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
        tally = self._tally = Tally(job.task_id, settlement.lease, reply.total, reply.stored)
        work = Work(
            files=pending,
            user_id=reply.user_id or job.user_id,
            generation_id=reply.generation_id or job.generation_id or "",
            profile=job.profile,
            max_concurrent=job.max_concurrent or self._around.max_concurrent,
            received=tally.received,
            may_start=lambda: time.monotonic() - self.started < self._around.soft_limit,
        )
        self._around.board.add(tally)
        try:
            return (await process(work, self._around.tools, self._note)).failed
        finally:
            self._around.board.remove(tally)

    async def _note(self, file: JobFile, result: ProcessedFile | FailedFile) -> None:
        if self._tally is not None:
            self._tally.ended(file, result)
        if not isinstance(result, ProcessedFile) or self.settlement is None:
            return
        self.settlement.stored.append(result)
        if not result.deduplicated:
            self._around.circuit.works("storage_unavailable")
            self._around.circuit.works("disk_full")


def _seconds_until(moment: datetime | None) -> float:
    return 0.0 if moment is None else (moment - datetime.now(UTC)).total_seconds()
