"""Runs a batch of files directly, without a queue, and records it in the database when there is one."""

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
from handlers.pipeline.known import report_recorded
from handlers.pipeline.state import Batch, PipelineDeps
from handlers.settings import MediaSettings
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import Job, JobFile, Profile, output_key_for, task_id_for
from schemas.tasks import BeginReply, TaskStatus
from schemas.urls import redact_url, source_key

log = logging.getLogger("async_file_processor.batch")

BatchCallback = Callable[[int, int, str], Any]
"""Called with (completed, total, url of the file that has just ended). May be a coroutine function."""
BytesCallback = Callable[[JobFile, int, int], None]
"""Called with (file, downloaded, total) in bytes while a file arrives. While the total is unknown, both are equal."""


def job_from_urls(
    urls: Sequence[str],
    user_id: UUID | str | None,
    generation_id: UUID | str,
    max_concurrent: int | None,
    settings: MediaSettings,
    profile: Profile | None = None,
) -> Job:
    """Return the job for files that were requested through an API. A URL given twice counts once.

    `profile` defaults to the profile of the settings.

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


def profile_of(job: Job, reply: BeginReply) -> Profile:
    """Return the job's profile. The binding's variants replace the profile's, unless those were requested for the job.

    Raises:
        FileProcessingError: the binding's variants are not valid.
    """
    if job.own_variants or reply.variants is None:
        return job.profile
    try:
        return job.profile.with_variants(reply.variants)
    except ValueError as error:
        raise FileProcessingError(f"the variants of the binding {reply.binding}: {error}") from None


class BatchReporter:
    """Logs each stored file and calls the progress callback. An error of the callback is logged, not raised."""

    def __init__(self, callback: BatchCallback | None, total: int) -> None:
        self._callback = callback
        self._total = total
        self._completed = 0

    async def __call__(self, file: JobFile, result: ProcessedFile | FailedFile) -> None:
        """Report a file whose processing has ended."""
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


async def run_batch(
    job: Job,
    deps: PipelineDeps,
    records: TaskRecords | None,
    reporter: BatchReporter,
    on_bytes: BytesCallback | None = None,
) -> BatchResult:
    """Process the files of a job. With `records`, the job is recorded as a task, and stored files are not stored again.

    Raises:
        FileProcessingError: the task is cancelled, or the binding's variants are not valid; or (`retryable`) another
            worker runs the task, or nothing could be recorded.
        DatabaseUnavailableError: the database did not answer.
    """
    batch = Batch(job.files, job.user_id, job.generation_id or "", job.profile, job.max_concurrent or 1, job.binding)
    batch = replace(batch, on_progress=on_bytes)
    if records is None:
        return await process(batch, deps, reporter)
    lease = uuid4()
    reply = await records.begin(job, lease, "api", attempt=1)
    if reply.state in {"busy", "cancelled"}:
        raise FileProcessingError(f"the task {job.task_id} is {reply.state}", retryable=reply.state == "busy")
    if reply.state == "recorded":
        report_recorded(reply.files, deps.observer)
    already_stored = {file.source_key: file for file in reply.files}
    for file in job.files:
        if file.source_key in already_stored:
            await reporter(file, already_stored[file.source_key])
    pending = tuple(file for file in job.files if file.source_key not in already_stored)
    batch = replace(
        batch,
        files=pending,
        user_id=reply.user_id or job.user_id,
        bucket=reply.bucket,
        folders=reply.folders,
        known=reply.known,
        profile=profile_of(job, reply),
    )
    if reply.state in {"done", "recorded"}:
        result = BatchResult()
    else:
        result = await _process_and_record(job, batch, deps, records, lease, reporter)
    stored = sorted([*already_stored.values(), *result.stored], key=lambda file: file.position)
    return BatchResult(stored, result.failed)


async def _process_and_record(
    job: Job, batch: Batch, deps: PipelineDeps, records: TaskRecords, lease: UUID, reporter: BatchReporter
) -> BatchResult:
    """Process the files and finish the task. On an exception the lease is released, so others can run the task."""
    try:
        result = await process(batch, deps, reporter)
    except BaseException:
        await asyncio.shield(records.finish(job, lease, TaskStatus.RETRYING, [], []))
        raise
    already_stored = len(job.files) - len(batch.files)
    reply = await records.finish(job, lease, _status(result, already_stored), result.stored, result.failed)
    if reply.state != "recorded":
        raise FileProcessingError(f"nothing was recorded: the task {job.task_id} is {reply.state}", retryable=True)
    return result


def _status(result: BatchResult, already_stored: int) -> TaskStatus:
    if all(file.is_skipped for file in result.failed):
        return TaskStatus.COMPLETED
    return TaskStatus.PARTIAL if result.stored or already_stored else TaskStatus.FAILED
