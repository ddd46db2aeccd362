"""A batch processed here and now, without a queue: reported file by file, recorded when there is a database."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from handlers.database.task_records import TaskRecords
from handlers.errors import FileProcessingError
from handlers.pipeline import BatchResult, process
from handlers.pipeline.steps import Batch, PipelineDeps
from handlers.settings import MediaSettings
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import Job, JobFile, Profile, output_key_for, task_id_for
from schemas.tasks import TaskStatus
from schemas.urls import redact_url, source_key

log = logging.getLogger("async_file_processor.batch")

BatchCallback = Callable[[int, int, str], Any]
"""Called with (completed, total, url of the file that just ended); may be a coroutine function."""


def job_from_urls(
    urls: Sequence[str],
    user_id: UUID | str | None,
    generation_id: UUID | str,
    max_concurrent: int | None,
    settings: MediaSettings,
    profile: Profile | None = None,
) -> Job:
    """Return the job that somebody asks for outright; each URL counts once. Without `profile`, the settings' one.

    Raises:
        ValueError: no URL, more than MAX_BATCH_SIZE URLs, or `max_concurrent` below 1.
    """
    limit = settings.max_batch_size
    if not urls or len(urls) > limit:
        raise ValueError(f"urls: give 1 to {limit} (MAX_BATCH_SIZE), not {len(urls)}; split larger batches")
    if max_concurrent is not None and max_concurrent < 1:
        raise ValueError(f"max_concurrent: must be at least 1, not {max_concurrent}")
    profile = profile or settings.profile
    unique = {source_key(url): url for url in urls}
    files = tuple(
        JobFile(position=position, url=url, source_key=key) for position, (key, url) in enumerate(unique.items())
    )
    return Job(
        task_id=task_id_for(str(generation_id), files, profile),
        generation_id=str(generation_id),
        user_id=None if user_id is None else str(user_id),
        source="api",
        files=files,
        total_files=len(files),
        output_key=output_key_for(list(unique)),
        profile=profile,
        max_concurrent=max_concurrent,
        event_at=datetime.now(UTC),
    )


class BatchReporter:
    """Calls the progress callback after each file; whatever the callback does, the batch goes on."""

    def __init__(self, callback: BatchCallback | None, total: int) -> None:
        self._callback = callback
        self._total = total
        self._completed = 0

    async def __call__(self, file: JobFile, result: ProcessedFile | FailedFile) -> None:
        """Count the file and tell log and callback."""
        self._completed += 1
        if isinstance(result, ProcessedFile):
            progress = {"completed": self._completed, "total": self._total, "url": redact_url(file.url)}
            log.info("file stored", extra=progress)
        if self._callback is None:
            return
        try:
            result = self._callback(self._completed, self._total, file.url)
            if inspect.isawaitable(result):
                await result
        except Exception:
            log.exception("the progress callback failed")


async def run_batch(job: Job, deps: PipelineDeps, records: TaskRecords | None, report: BatchReporter) -> BatchResult:
    """Process a job. With `records` it is a task like any other: what is stored already is not done again.

    Raises:
        FileProcessingError: the task is cancelled, or busy elsewhere (then `retryable`).
        DatabaseUnavailableError: the database gives no answer.
    """
    batch = Batch(job.files, job.user_id, job.generation_id or "", job.profile, job.max_concurrent or 1)
    if records is None:
        return await process(batch, deps, report)
    lease = uuid4()
    reply = await records.begin(job, lease, "api", attempt=1)
    if reply.state in {"busy", "cancelled"}:
        raise FileProcessingError(f"the task {job.task_id} is {reply.state}", retryable=reply.state == "busy")
    before = {file.source_key: file for file in reply.files}
    for file in job.files:
        if file.source_key in before:
            await report(file, before[file.source_key])
    pending = tuple(file for file in job.files if file.source_key not in before)
    batch = replace(batch, files=pending, user_id=reply.user_id or job.user_id)
    outcome = BatchResult() if reply.state == "done" else await _process(job, batch, deps, records, lease, report)
    stored = sorted([*before.values(), *outcome.stored], key=lambda file: file.position)
    return BatchResult(stored, outcome.failed)


async def _process(
    job: Job, batch: Batch, deps: PipelineDeps, records: TaskRecords, lease: UUID, report: BatchReporter
) -> BatchResult:
    """Process and record; whatever interrupts it, the task is given back at once."""
    try:
        outcome = await process(batch, deps, report)
    except BaseException:
        await asyncio.shield(records.finish(job, lease, TaskStatus.RETRYING, [], []))
        raise
    before = len(job.files) - len(batch.files)
    reply = await records.finish(job, lease, _status(outcome, before), outcome.stored, outcome.failed)
    if reply.state != "recorded":
        raise FileProcessingError(f"nothing was recorded: the task {job.task_id} is {reply.state}", retryable=True)
    return outcome


def _status(outcome: BatchResult, before: int) -> TaskStatus:
    if not outcome.failed:
        return TaskStatus.COMPLETED
    return TaskStatus.PARTIAL if outcome.stored or before else TaskStatus.FAILED
