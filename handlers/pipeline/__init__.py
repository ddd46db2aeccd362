"""The pipeline: runs each file of a batch through STEPS, several files at once. Read STEPS first."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from handlers.download.disk_space import DiskSpace
from handlers.errors import FileProcessingError, FileSkippedError, is_disk_full
from handlers.pipeline.known import use_known
from handlers.pipeline.state import Batch, FileState, PipelineDeps
from handlers.pipeline.steps import deduplicate, detect, download, prepare, require, upload
from handlers.tempdirs import remove_folder, scratch
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import JobFile
from schemas.urls import redact_url

log = logging.getLogger("async_file_processor.pipeline")

STEPS: Final[tuple[Callable[[FileState, PipelineDeps], Coroutine[None, None, FileState]], ...]] = (
    download,
    detect,
    deduplicate,
    prepare,
    upload,
)
"""The steps of one file, in order. The remaining steps are skipped as soon as `FileState.stored` is set."""

FileDone = Callable[[JobFile, ProcessedFile | FailedFile], Awaitable[None]]
"""Called and awaited after each file, with the file and its result."""


@dataclass(slots=True)
class BatchResult:
    """The stored and the not stored files of a batch, each in the order of the batch. Skipped files are in `failed`."""

    stored: list[ProcessedFile] = field(default_factory=list)
    failed: list[FailedFile] = field(default_factory=list)


async def process(batch: Batch, deps: PipelineDeps, on_file_done: FileDone | None = None) -> BatchResult:
    """Run every file of `batch` through STEPS, at most `batch.max_concurrent` files at the same time.

    The files are processed in a temporary folder, which is removed at the end. A file that is known by its URL needs no
    step: see `use_known`. An error in one file does not stop the others and is not raised: the file is listed in
    `BatchResult.failed`. Cancellation is raised, and so are errors of `on_file_done` and of making the batch's folder.
    """
    semaphore = asyncio.Semaphore(batch.max_concurrent)
    results: dict[str, ProcessedFile | FailedFile] = {}
    early = batch.early

    def disk_space() -> contextlib.AbstractContextManager[DiskSpace]:
        return contextlib.nullcontext(early.space) if early else deps.downloader.disk_space(batch.user_id)

    async def end(file: JobFile, result: ProcessedFile | FailedFile) -> None:
        results[file.source_key] = result
        if on_file_done is not None:
            await on_file_done(file, result)

    async def run_file(file: JobFile, folder: Path) -> None:
        async with semaphore:
            if batch.may_start():
                with disk_space() as space, batch.hooks.file(file.position):
                    result = await _process_file(FileState(file, batch, folder, space), deps)
            else:
                result = failed_file(file, _soft_timeout(), "start")
        await end(file, result)

    pending = []
    for file in batch.files:
        if (known := use_known(file, batch, deps)) is None:
            pending.append(file)
        else:
            await end(file, known)
    if pending:
        place = scratch(deps.settings.temp_dir) if early is None else contextlib.nullcontext(early.folder)
        async with place as folder, asyncio.TaskGroup() as group:
            for file in pending:
                group.create_task(run_file(file, folder if len(batch.files) == 1 else folder / str(file.position)))
    in_order = [results[file.source_key] for file in batch.files]
    return BatchResult(
        stored=[result for result in in_order if isinstance(result, ProcessedFile)],
        failed=[result for result in in_order if isinstance(result, FailedFile)],
    )


async def _process_file(state: FileState, deps: PipelineDeps) -> ProcessedFile | FailedFile:
    stage = "start"
    try:
        state.folder.mkdir(exist_ok=True)  # a single file is processed in the folder of the batch
        for step in STEPS:
            if state.stored is not None:
                break
            stage = step.__name__
            started = time.perf_counter()
            try:
                with state.batch.hooks.step(stage):
                    state = await step(state, deps)
            finally:
                seconds = time.perf_counter() - started
                deps.observer.stage(stage, seconds)
                log.debug("step ended", extra={"stage": stage, "position": state.file.position, "seconds": seconds})
        return _stored(state, deps)
    except FileProcessingError as error:
        return _failed(state, stage, error, deps)
    except Exception as error:
        log.exception("unexpected error", extra={"stage": stage, "url": redact_url(state.file.url)})
        return _failed(state, stage, unexpected_error(error), deps)
    finally:
        # The other files of the batch may take long, so this file's folder is removed now.
        if len(state.batch.files) > 1:
            await remove_folder(state.folder)


def _stored(state: FileState, deps: PipelineDeps) -> ProcessedFile:
    """Report a stored file to the observer and return its record."""
    stored = require(state.stored)
    kind = state.media.kind if state.media else "unknown"
    deps.observer.file(kind, "deduplicated" if stored.deduplicated else "stored")
    return stored


def _failed(state: FileState, stage: str, error: FileProcessingError, deps: PipelineDeps) -> FailedFile:
    """Report a failed or skipped file to the observer and the log, and return its record."""
    if isinstance(error, FileSkippedError):
        deps.observer.file("unknown", "skipped")
        log.info("file skipped", extra={"code": error.code, "reason": str(error), "url": redact_url(state.file.url)})
        return failed_file(state.file, error, stage)
    deps.observer.error(error.code)
    deps.observer.file(state.media.kind if state.media else "unknown", "retried" if error.retryable else "failed")
    level = logging.WARNING if error.retryable else logging.ERROR
    log.log(level, "file failed", extra={"stage": stage, "code": error.code, "url": redact_url(state.file.url)})
    return failed_file(state.file, error, stage)


def _soft_timeout() -> FileProcessingError:
    return FileProcessingError(
        "the file was not started, because its task has run longer than TASK_SOFT_TIMEOUT_MINUTES",
        code="soft_timeout",
        retryable=True,
    )


def unexpected_error(error: Exception) -> FileProcessingError:
    """Return a retryable FileProcessingError for an exception that is not of the error tree.

    The code is `disk_full` when the disk or the quota is full, otherwise `unexpected`.
    """
    code = "disk_full" if is_disk_full(error) else "unexpected"
    return FileProcessingError(repr(error)[:500], code=code, retryable=True)


def failed_file(file: JobFile, error: FileProcessingError, stage: str) -> FailedFile:
    """Return the record of a file that failed with `error` in the step `stage`."""
    return FailedFile(
        url=file.url,
        error=str(error),
        code=error.code,
        retryable=error.retryable,
        retry_after=error.retry_after,
        stage=stage,
        position=file.position,
        source_key=file.source_key,
    )
