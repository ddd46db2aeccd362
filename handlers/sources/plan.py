"""Splits the files of a completed generation into jobs."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.outputs import find_files
from handlers.sources.refusals import Refusal, placeholder
from schemas.events import CompletedGeneration
from schemas.jobs import MAX_JOB_BYTES, Job, JobFile, Queue, output_key_for, task_id_for
from schemas.urls import data_reference, is_data_uri

ENVELOPE_BYTES: Final = 64 * 1024
"""Reserved in a message for everything except its files."""
FILE_BYTES: Final = 128
"""Reserved for the field names and the position of one file."""
BULK_FILES: Final = 100
"""An event with more files goes to the bulk queue, so that it does not delay the events of others."""


def plan_jobs(
    event: CompletedGeneration, settings: MediaSettings, allowlist: Allowlist, *, allow_empty: bool = False
) -> tuple[Job, ...]:
    """Return the jobs of an event. Without files there are none, or one without files if `allow_empty`.

    A FAL event without a payload also becomes one job without files. That job fails, so that its result can be
    requested from FAL later.
    """
    files = find_files(event.output, settings, allowlist)
    batches = list(_split(files, settings.max_batch_size))
    if not batches and (allow_empty or (event.source == "fal" and event.output is None)):
        batches = [()]
    return build_jobs(event, files, batches, settings)


def refused_job(event: CompletedGeneration, refusal: Refusal, settings: MediaSettings) -> Job:
    """Return a job that a worker fails with this code, for an event whose output cannot be read."""
    files = (placeholder(refusal, 0),)
    return build_jobs(event, files, [files], settings)[0]


def build_jobs(
    event: CompletedGeneration,
    files: Sequence[JobFile],
    batches: Sequence[tuple[JobFile, ...]],
    settings: MediaSettings,
) -> tuple[Job, ...]:
    """Return one job per batch of the event's files."""
    owner = event.generation_id or f"fal:{event.request_id}"
    now, key, profile = datetime.now(UTC), output_key_for([file.source_key for file in files]), settings.profile
    return tuple(
        Job(
            task_id=task_id_for(owner, batch, profile),
            generation_id=event.generation_id,
            request_id=event.request_id,
            user_id=event.user_id,
            source=event.source,
            files=batch,
            total_files=len(files),
            output_key=key,
            profile=profile,
            queue=Queue.BULK if len(files) > BULK_FILES else Queue.FILES,
            event_at=now,
        )
        for batch in batches
    )


def _split(files: tuple[JobFile, ...], max_files: int) -> Iterator[tuple[JobFile, ...]]:
    """Split into batches of contiguous positions, each of at most `max_files` files and MAX_JOB_BYTES of message."""
    if 0 < len(files) <= max_files and ENVELOPE_BYTES + sum(map(_max_message_bytes, files)) <= MAX_JOB_BYTES:
        yield files
        return
    batch: list[JobFile] = []
    size = ENVELOPE_BYTES
    for file in map(_shorten, files):
        if batch and (len(batch) == max_files or size + _message_bytes(file) > MAX_JOB_BYTES):
            yield tuple(batch)
            batch, size = [], ENVELOPE_BYTES
        batch.append(file)
        size += _message_bytes(file)
    if batch:
        yield tuple(batch)


def _shorten(file: JobFile) -> JobFile:
    """Replace a `data:` URI that is too large for any message by a reference. The worker reads it from the row."""
    if is_data_uri(file.url) and _message_bytes(file) + ENVELOPE_BYTES > MAX_JOB_BYTES:
        return file.model_copy(update={"url": data_reference(file.url)})
    return file


def _message_bytes(file: JobFile) -> int:
    """Return the bytes that a file takes in a message. A character may take several bytes."""
    return len(file.model_dump_json().encode())


def _max_message_bytes(file: JobFile) -> int:
    """Return an upper bound of `_message_bytes`: JSON takes at most six bytes for a character."""
    return FILE_BYTES + 6 * (len(file.url) + len(file.source_key) + len(file.file_name or ""))
