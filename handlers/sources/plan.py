"""Splits the files of a completed generation into jobs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.fal_results import with_fal_result
from handlers.sources.outputs import OutputFiles, find_files
from handlers.sources.refusals import Refusal, placeholder
from schemas.events import CompletedGeneration
from schemas.jobs import MAX_JOB_BYTES, Job, JobFile, Queue, SkippedFile, output_key_for, task_id_for
from schemas.urls import data_reference, is_data_uri

ENVELOPE_BYTES: Final = 64 * 1024
"""Bytes that are reserved in a message for everything except its files."""
FILE_BYTES: Final = 128
"""Bytes that are reserved for the JSON keys and the position of one file."""
SKIPPED_BYTES: Final = 16 * 1024
"""Maximum size of a skipped file in a message, in bytes."""
BULK_FILES: Final = 100
"""An event with more files goes to the bulk queue, so that it does not delay the events of others."""


@dataclass(frozen=True, slots=True)
class JobBatch:
    """The files of one job."""

    files: tuple[JobFile, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()


def plan_jobs(
    event: CompletedGeneration, settings: MediaSettings, allowlist: Allowlist, *, allow_empty: bool = False
) -> tuple[Job, ...]:
    """Return the jobs of an event. If its output names no file: no job, or with `allow_empty` a job without files.

    An output of which every file is skipped becomes a job without files to take, which records the skipped ones.

    A FAL event without a payload also becomes one job without files. A worker then requests the result from FAL.
    """
    found = find_files(event.output, settings, allowlist)
    batches = list(_split(found, settings.max_batch_size))
    if not batches and (allow_empty or (event.source == "fal" and event.output is None)):
        batches = [JobBatch()]
    jobs = build_jobs(event, found, batches, settings)
    return with_fal_result(jobs, event, found) if event.source == "fal" else jobs


def refused_job(event: CompletedGeneration, refusal: Refusal, settings: MediaSettings) -> Job:
    """Return a job for an event whose output cannot be read. A worker fails its only file with the refusal's code."""
    files = (placeholder(refusal, 0),)
    return build_jobs(event, OutputFiles(files), [JobBatch(files)], settings)[0]


def build_jobs(
    event: CompletedGeneration,
    found: OutputFiles,
    batches: Sequence[JobBatch],
    settings: MediaSettings,
) -> tuple[Job, ...]:
    """Return one job per batch of the event's files."""
    owner = event.generation_id or f"fal:{event.request_id}"
    at, key = event.event_at or datetime.now(UTC), _output_key(found)
    profile, total = settings.profile, len(found.files)
    return tuple(
        Job(
            task_id=task_id_for(owner, batch.files or batch.skipped, profile, event.binding),
            binding=event.binding,
            generation_id=event.generation_id,
            request_id=event.request_id,
            user_id=event.user_id,
            source=event.source,
            files=batch.files,
            skipped=batch.skipped,
            total_files=total,
            output_key=key,
            profile=profile,
            queue=Queue.BULK if total > BULK_FILES else Queue.FILES,
            event_at=at,
        )
        for batch in batches
    )


def _output_key(found: OutputFiles) -> str:
    """Return the key of the output. Another list of skipped files gives another key."""
    keys = [(file.position, file.source_key) for file in found.files]
    keys += [(file.position, f"skipped {file.source_key}") for file in found.skipped]
    return output_key_for([key for _, key in sorted(keys)])


def _split(found: OutputFiles, max_files: int) -> Iterator[JobBatch]:
    """Split the files in order of position into batches of at most `max_files` files and MAX_JOB_BYTES of message."""
    if 0 < len(found.files) <= max_files and _fits(found):
        yield JobBatch(found.files, found.skipped)
        return
    files: list[JobFile] = []
    skipped: list[SkippedFile] = []
    size = ENVELOPE_BYTES
    named: list[JobFile | SkippedFile] = [*map(_shorten, found.files), *found.skipped]
    for file in sorted(named, key=lambda file: file.position):
        is_full = len(files) == max_files and isinstance(file, JobFile)
        if (files or skipped) and (is_full or size + _message_bytes(file) > MAX_JOB_BYTES):
            yield JobBatch(tuple(files), tuple(skipped))
            files, skipped, size = [], [], ENVELOPE_BYTES
        if isinstance(file, JobFile):
            files.append(file)
        else:
            skipped.append(file)
        size += _message_bytes(file)
    if files or skipped:
        yield JobBatch(tuple(files), tuple(skipped))


def _fits(found: OutputFiles) -> bool:
    """Return whether all files surely fit into one message."""
    skipped = SKIPPED_BYTES * len(found.skipped)
    return ENVELOPE_BYTES + skipped + sum(map(_max_message_bytes, found.files)) <= MAX_JOB_BYTES


def _shorten(file: JobFile) -> JobFile:
    """Replace a `data:` URI that is too large for any message by a reference. The worker reads it from the row."""
    if is_data_uri(file.url) and _message_bytes(file) + ENVELOPE_BYTES > MAX_JOB_BYTES:
        return file.model_copy(update={"url": data_reference(file.url)})
    return file


def _message_bytes(file: JobFile | SkippedFile) -> int:
    """Return the bytes that a file takes in a message. A character may take several bytes."""
    return len(file.model_dump_json().encode())


def _max_message_bytes(file: JobFile) -> int:
    """Return an upper bound of `_message_bytes`: JSON takes at most six bytes for a character."""
    return FILE_BYTES + 6 * sum(map(len, (file.url, file.source_key, file.file_name or "", file.field or "")))
