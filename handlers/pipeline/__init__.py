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
from handlers.pipeline.steps import Batch, FileState, PipelineDeps, detect, download, needed, prepare, recall, upload
from handlers.pipeline.tempdirs import clear, scratch
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import JobFile
from schemas.urls import shown

log = logging.getLogger("async_file_processor.pipeline")

STEPS: Final[tuple[Callable[[FileState, PipelineDeps], Coroutine[None, None, FileState]], ...]] = (
    download,
    detect,
    recall,
    prepare,
    upload,
)


FileDone = Callable[[JobFile, ProcessedFile | FailedFile], Awaitable[None]]


@dataclass(slots=True)
class BatchResult:
    """What became of a job's files, in order of position."""

    stored: list[ProcessedFile] = field(default_factory=list)
    failed: list[FailedFile] = field(default_factory=list)


async def process(work: Batch, tools: PipelineDeps, done: FileDone | None = None) -> BatchResult:
    """Run every file of `work` through STEPS, at most `max_concurrent` at once, in a folder that is gone afterwards.

    A file that fails does not stop the others; nothing is raised but cancellation. `done` is awaited after each file.
    """
    room = asyncio.Semaphore(work.max_concurrent)
    results: dict[str, ProcessedFile | FailedFile] = {}

    async def one(file: JobFile, place: Path) -> None:
        async with room:
            if work.may_start():
                with work.watch.file(file.position):
                    results[file.source_key] = await _process_file(FileState(file, work, place), tools)
            else:
                results[file.source_key] = failed_file(file, _not_begun(), "start")
        if done is not None:
            await done(file, results[file.source_key])

    async with scratch(tools.settings.temp_dir) as folder, asyncio.TaskGroup() as group:
        for file in work.files:
            group.create_task(one(file, folder / str(file.position)))
    ended = [results[file.source_key] for file in work.files]
    return BatchResult(
        stored=[file for file in ended if isinstance(file, ProcessedFile)],
        failed=[file for file in ended if isinstance(file, FailedFile)],
    )


async def _process_file(item: FileState, tools: PipelineDeps) -> ProcessedFile | FailedFile:
    stage = "start"
    item.folder.mkdir()
    try:
        for step in STEPS:
            if item.stored is not None:
                break
            stage = step.__name__
            started = time.perf_counter()
            try:
                with item.work.watch.step(stage):
                    item = await step(item, tools)
            finally:
                seconds = time.perf_counter() - started
                tools.observer.stage(stage, seconds)
                log.debug("step ended", extra={"stage": stage, "position": item.file.position, "seconds": seconds})
        return _stored(item, tools)
    except FileProcessingError as error:
        return _failed(item, stage, error, tools)
    except Exception as error:
        log.exception("unexpected error", extra={"stage": stage, "url": shown(item.file.url)})
        return _failed(item, stage, unexpected(error), tools)
    finally:
        if len(item.work.files) > 1:  # the others may take long; what holds a single one goes now anyway
            await clear(item.folder)


def _stored(item: FileState, tools: PipelineDeps) -> ProcessedFile:
    stored = needed(item.stored)
    kind = item.media.kind if item.media else "unknown"
    tools.observer.file(kind, "deduplicated" if stored.deduplicated else "stored")
    return stored


def _failed(item: FileState, stage: str, error: FileProcessingError, tools: PipelineDeps) -> FailedFile:
    tools.observer.error(error.code)
    tools.observer.file(item.media.kind if item.media else "unknown", "retried" if error.retryable else "failed")
    level = logging.WARNING if error.retryable else logging.ERROR
    log.log(level, "file failed", extra={"stage": stage, "code": error.code, "url": shown(item.file.url)})
    return failed_file(item.file, error, stage)


def _not_begun() -> FileProcessingError:
    said = "the task has run for so long that no new file of it is begun (TASK_SOFT_TIMEOUT_MINUTES)"
    return FileProcessingError(said, code="soft_timeout", retryable=True)


def unexpected(error: Exception) -> FileProcessingError:
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
