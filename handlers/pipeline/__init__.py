"""The pipeline: what happens to one file, step by step, and to all files of a job at once. Read STEPS first."""

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from handlers.errors import FileProcessingError
from handlers.pipeline.steps import (
    Batch,
    FileState,
    PipelineDeps,
    deduplicate,
    detect,
    download,
    prepare,
    require,
    upload,
)
from handlers.pipeline.tempdirs import remove_folder, scratch
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


FileDone = Callable[[JobFile, ProcessedFile | FailedFile], Awaitable[None]]


@dataclass(slots=True)
class BatchResult:
    """What became of a job's files, in order of position."""

    stored: list[ProcessedFile] = field(default_factory=list)
    failed: list[FailedFile] = field(default_factory=list)


async def process(batch: Batch, deps: PipelineDeps, done: FileDone | None = None) -> BatchResult:
    """Run every file of `batch` through STEPS, at most `max_concurrent` at once, in a folder that is gone afterwards.

    A file that fails does not stop the others; nothing is raised but cancellation. `done` is awaited after each file.
    """
    room = asyncio.Semaphore(batch.max_concurrent)
    results: dict[str, ProcessedFile | FailedFile] = {}

    async def one(file: JobFile, place: Path) -> None:
        async with room:
            if batch.may_start():
                with batch.watch.file(file.position):
                    results[file.source_key] = await _process_file(FileState(file, batch, place), deps)
            else:
                results[file.source_key] = failed_file(file, _not_begun(), "start")
        if done is not None:
            await done(file, results[file.source_key])

    async with scratch(deps.settings.temp_dir) as folder, asyncio.TaskGroup() as group:
        for file in batch.files:
            group.create_task(one(file, folder / str(file.position)))
    ended = [results[file.source_key] for file in batch.files]
    return BatchResult(
        stored=[file for file in ended if isinstance(file, ProcessedFile)],
        failed=[file for file in ended if isinstance(file, FailedFile)],
    )


async def _process_file(state: FileState, deps: PipelineDeps) -> ProcessedFile | FailedFile:
    stage = "start"
    state.folder.mkdir()
    try:
        for step in STEPS:
            if state.stored is not None:
                break
            stage = step.__name__
            started = time.perf_counter()
            try:
                with state.batch.watch.step(stage):
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
        if len(state.batch.files) > 1:  # the others may take long; what holds a single one goes now anyway
            await remove_folder(state.folder)


def _stored(state: FileState, deps: PipelineDeps) -> ProcessedFile:
    stored = require(state.stored)
    kind = state.media.kind if state.media else "unknown"
    deps.observer.file(kind, "deduplicated" if stored.deduplicated else "stored")
    return stored


def _failed(state: FileState, stage: str, error: FileProcessingError, deps: PipelineDeps) -> FailedFile:
    deps.observer.error(error.code)
    deps.observer.file(state.media.kind if state.media else "unknown", "retried" if error.retryable else "failed")
    level = logging.WARNING if error.retryable else logging.ERROR
    log.log(level, "file failed", extra={"stage": stage, "code": error.code, "url": redact_url(state.file.url)})
    return failed_file(state.file, error, stage)


def _not_begun() -> FileProcessingError:
    said = "the task has run for so long that no new file of it is begun (TASK_SOFT_TIMEOUT_MINUTES)"
    return FileProcessingError(said, code="soft_timeout", retryable=True)


def unexpected_error(error: Exception) -> FileProcessingError:
    """Translate what nobody foresaw; a full disk passes, so it has all attempts."""
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    return FileProcessingError(repr(error)[:500], code="disk_full" if full else "unexpected", retryable=True)


def failed_file(file: JobFile, error: FileProcessingError, stage: str) -> FailedFile:
    """Return what is told of a file that this error kept from being stored."""
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
