"""Reuses files that the user has stored from the same URLs, if the content of these URLs never changes."""

from collections.abc import Iterable

from handlers.media import BY_CONTENT_TYPE, UNVERIFIED, MediaType
from handlers.observer import Observer
from handlers.pipeline.state import Batch, PipelineDeps
from handlers.pipeline.steps import as_duplicate, in_folders
from schemas.files import ProcessedFile
from schemas.jobs import JobFile


def use_known(file: JobFile, batch: Batch, deps: PipelineDeps) -> ProcessedFile | None:
    """Return the record of `file` with the object of an earlier file in `Batch.known`, or None.

    None also if the earlier file is not stored as this batch would store it. A reused file is reported to the observer.
    The database has checked that the object exists; `outlast_finish` checks it again.
    """
    earlier = next((known for known in batch.known if known.source_key == file.source_key), None)
    if earlier is None or not _in_place(earlier, batch, deps):
        return None
    media = _media_of(earlier, deps)
    if media is None or earlier.original_size > deps.settings.max_file_bytes:
        return None
    deps.observer.file(media.kind, "deduplicated")
    return as_duplicate(file, batch, earlier)


def report_recorded(files: Iterable[ProcessedFile], observer: Observer) -> None:
    """Report files to the observer that `outlast_begin` has recorded, because all files of the job were known."""
    for file in files:
        media = BY_CONTENT_TYPE.get(file.content_type)
        observer.file(media.kind if media else "unknown", "deduplicated")


def _in_place(file: ProcessedFile, batch: Batch, deps: PipelineDeps) -> bool:
    """Return whether a file has the profile, the bucket and the folders that this batch would give it."""
    bucket = batch.storage_of(deps.storage).bucket
    return file.profile == batch.profile.key and file.bucket == bucket and in_folders(batch, file.path)


def _media_of(file: ProcessedFile, deps: PipelineDeps) -> MediaType | None:
    """Return the type of a stored file; None if the settings no longer allow such files to be stored."""
    if file.content_type == UNVERIFIED.content_type:
        return UNVERIFIED if deps.settings.unsupported_files == "keep" else None
    return BY_CONTENT_TYPE.get(file.content_type)
