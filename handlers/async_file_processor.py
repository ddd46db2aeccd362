"""The Python API for single files and batches; works without broker and without database.

`async_file_processor` configures itself from the environment on first use. Each call opens what it needs and closes it
again, so that nothing is tied to an event loop; only the codec processes stay until `aclose` or the program's end.
"""

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self
from uuid import UUID

from handlers.codec.codec import Codec
from handlers.database.client import Supabase
from handlers.database.task_records import TaskRecords
from handlers.detect import detect
from handlers.download import Downloader
from handlers.errors import (
    DecoderLimitError,
    FileCorruptedError,
    FileProcessingError,
    FileSizeExceededError,
    FileTypeNotSupportedError,
)
from handlers.observer import Observer
from handlers.pipeline.batch import BatchCallback, BatchReporter, job_from_urls, run_batch
from handlers.pipeline.steps import PipelineDeps
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.files import ProcessingResult
from schemas.jobs import Job, Profile

log = logging.getLogger("async_file_processor")


class AsyncFileProcessor:
    """Downloads, checks, compresses and stores files, without a queue.

    Settings come from the environment unless given. Safe to use from one event loop at a time.
    """

    def __init__(self, settings: MediaSettings | None = None, observer: Observer | None = None) -> None:
        self._given = settings
        self._observer = observer or Observer()
        self._codec: Codec | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the codec processes; the processor may be used again."""
        if self._codec is not None:
            codec, self._codec = self._codec, None
            await codec.aclose()

    @property
    def settings(self) -> MediaSettings:
        """The settings in force; read from the environment on first use. Raises SettingsError."""
        if self._given is None:
            self._given = MediaSettings.load()
        return self._given

    async def download_fal_file(
        self,
        url: str,
        max_size: int | None = None,
        progress_callback: Callable[[int, int], None] | None = None,
    ) -> bytes:
        """Fetch a file into memory.

        Args:
            url: an https URL on SOURCE_ALLOWLIST, or a `data:` URI.
            max_size: most bytes to take; MAX_FILE_SIZE_MB unless given.
            progress_callback: called with (downloaded, total) bytes; total is downloaded while it is unknown.

        Raises:
            FileSizeExceededError: more bytes arrived than allowed.
            FileProcessingError: the source forbids, lacks or does not deliver the file.
        """
        with tempfile.TemporaryDirectory(prefix="outlast.api-", dir=self.settings.temp_dir) as folder:
            async with Downloader(self.settings, self._observer) as downloader:
                got = await downloader.fetch(url, Path(folder) / "source", max_size, progress_callback)
            return await asyncio.to_thread(got.path.read_bytes)

    def detect_file_type(self, file_data: bytes, url: str | None = None) -> tuple[str, str, bool]:
        """Return (content type, extension without dot, whether Outlast stores such files), decided from the content."""
        found = detect(file_data, url)
        if found.media is None:
            return found.mime_type, "", False
        return found.media.content_type, found.media.extension, True

    def validate_file_integrity(self, file_data: bytes, content_type: str) -> bool:
        """Whether the data decodes whole as `content_type`. Decodes in a codec process and waits for it."""
        with _written(file_data, self.settings) as source:
            try:
                self._codecs().check(source, content_type)
            except (FileCorruptedError, FileTypeNotSupportedError, DecoderLimitError) as error:
                log.info("file is not whole", extra={"content_type": content_type, "code": error.code})
                return False
        return True

    async def compress_image(self, file_data: bytes, quality: int = 85) -> bytes:
        """Return the image compressed at `quality` (1 to 100), or the very data when that would not be smaller.

        Raises:
            FileTypeNotSupportedError: the data is no image.
            FileCorruptedError: the image does not decode whole.
            DecoderLimitError: the image is too large.
        """
        content_type, _, _ = self.detect_file_type(file_data)
        if not content_type.startswith("image/"):
            raise FileTypeNotSupportedError(f"compress_image takes images, and this is {content_type}")
        profile = self.settings.profile.model_copy(update={"quality": Profile(quality=quality).quality})
        with _written(file_data, self.settings) as source:
            made = await self._codecs().prepare(source, source.with_name("prepared"), content_type, profile)
            return await asyncio.to_thread(made.path.read_bytes)

    async def process_file_batch(
        self,
        urls: Sequence[str],
        user_id: UUID | str | None,
        generation_id: UUID | str,
        max_concurrent: int = 3,
        progress_callback: BatchCallback | None = None,
    ) -> ProcessingResult:
        """Bring a generation's files home: to Supabase, or without SUPABASE_URL to OUT_DIR.

        A file that fails does not stop the others; it is told in `failed_files`. What the callback raises is
        logged.

        Raises:
            ValueError: no URL, more than MAX_BATCH_SIZE URLs, or `max_concurrent` below 1.
            DatabaseUnavailableError: Supabase gives no answer.
        """
        job = job_from_urls(urls, user_id, generation_id, max_concurrent, self.settings)
        return await self.process_job(job, progress_callback)

    async def process_job(self, job: Job, progress_callback: BatchCallback | None = None) -> ProcessingResult:
        """Do a job here and now, and record it where there is a database; else as `process_file_batch`."""
        started = time.perf_counter()
        report = BatchReporter(progress_callback, len(job.files))
        async with self._tools() as (deps, records):
            outcome = await run_batch(job, deps, records, report)
        return ProcessingResult(
            success=not outcome.failed,
            total_files=len(job.files),
            processed_files=outcome.stored,
            failed_files=outcome.failed,
            processing_time=time.perf_counter() - started,
            finished_at=datetime.now(UTC),
        )

    def _codecs(self) -> Codec:
        if self._codec is None:
            self._codec = Codec(self.settings)
        return self._codec

    @contextlib.asynccontextmanager
    async def _tools(self) -> AsyncIterator[tuple[PipelineDeps, TaskRecords | None]]:
        """Open what a batch needs. With Supabase configured everything is recorded there, else nothing is."""
        settings = self.settings
        async with contextlib.AsyncExitStack() as stack:
            downloader = await stack.enter_async_context(Downloader(settings, self._observer))
            if settings.supabase_url is None:
                storage = FolderStorage(settings.out_dir, settings.storage_bucket)
                yield PipelineDeps(settings, downloader, self._codecs(), storage, self._observer), None
                return
            supabase = await stack.enter_async_context(Supabase(settings, self._observer))
            records = TaskRecords(settings, supabase)
            yield (
                PipelineDeps(
                    settings,
                    downloader,
                    self._codecs(),
                    supabase,
                    self._observer,
                    records.find_stored,
                    records.read_inline,
                    records.claim_object,
                ),
                records,
            )


@contextlib.contextmanager
def _written(file_data: bytes, settings: MediaSettings) -> Iterator[Path]:
    """Put data on disk for the codec processes."""
    with tempfile.TemporaryDirectory(prefix="outlast.api-", dir=settings.temp_dir) as folder:
        source = Path(folder) / "source"
        source.write_bytes(file_data)
        yield source


async_file_processor: Final = AsyncFileProcessor()
"""Configured from the environment on first use."""

__all__ = [
    "AsyncFileProcessor",
    "FileProcessingError",
    "FileSizeExceededError",
    "FileTypeNotSupportedError",
    "async_file_processor",
]
