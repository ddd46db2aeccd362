"""The Python API for single files and batches. It needs neither a broker nor a database.

`async_file_processor` reads its settings from the environment on first use. Each call opens and closes its own
connections, so no connection is bound to an event loop. Only the codec processes run until `aclose` or program exit.
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
from handlers.download.immutable import ImmutableSources
from handlers.errors import (
    DecoderLimitError,
    FileCorruptedError,
    FileProcessingError,
    FileSizeExceededError,
    FileTypeNotSupportedError,
)
from handlers.observer import Observer
from handlers.pipeline.batch import BatchCallback, BatchReporter, BytesCallback, job_from_urls, run_batch
from handlers.pipeline.state import PipelineDeps
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.files import ProcessingResult
from schemas.jobs import Job, Profile

log = logging.getLogger("async_file_processor")


class AsyncFileProcessor:
    """Downloads, validates, compresses and stores files, without a queue.

    `settings` are read from the environment if none are given. An instance may be used from one event loop at a time.
    """

    def __init__(self, settings: MediaSettings | None = None, observer: Observer | None = None) -> None:
        self._settings = settings
        self._observer = observer or Observer()
        self._codec: Codec | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the codec processes. They start again when the processor is used again."""
        if self._codec is not None:
            codec, self._codec = self._codec, None
            await codec.aclose()

    @property
    def settings(self) -> MediaSettings:
        """The settings. They are read from the environment on first use, which may raise SettingsError."""
        if self._settings is None:
            self._settings = MediaSettings.load()
        return self._settings

    async def download_fal_file(
        self,
        url: str,
        max_size: int | None = None,
        progress_callback: Callable[[int, int], None] | None = None,
    ) -> bytes:
        """Download a file into memory.

        Args:
            url: an https URL on SOURCE_ALLOWLIST, or a `data:` URI.
            max_size: maximum size in bytes; the default is MAX_FILE_SIZE_MB.
            progress_callback: called with (downloaded, total) in bytes. While the total is unknown, both are equal.

        Raises:
            FileSizeExceededError: the file is larger than `max_size`.
            FileProcessingError: the URL is not allowed, or the source does not have or deliver the file.
        """
        with tempfile.TemporaryDirectory(prefix="outlast.api-", dir=self.settings.temp_dir) as folder:
            async with Downloader(self.settings, self._observer) as downloader:
                file = await downloader.fetch(url, Path(folder) / "source", max_size, progress_callback)
            return await asyncio.to_thread(file.path.read_bytes)

    def detect_file_type(self, file_data: bytes, url: str | None = None) -> tuple[str, str, bool]:
        """Detect the type from the content; return (content type, extension without dot, whether it is supported)."""
        detected = detect(file_data, url)
        if detected.media is None:
            return detected.mime_type, "", False
        return detected.media.content_type, detected.media.extension, True

    def validate_file_integrity(self, file_data: bytes, content_type: str) -> bool:
        """Return whether the data decodes completely as `content_type`. Blocks while a codec process decodes it.

        Raises:
            FileProcessingError: the codec process failed, so the data may be valid (`retryable`).
        """
        with _temporary_file(file_data, self.settings) as source:
            try:
                self._get_codec().check(source, content_type)
            except (FileCorruptedError, FileTypeNotSupportedError, DecoderLimitError) as error:
                log.info("the file is invalid", extra={"content_type": content_type, "code": error.code})
                return False
        return True

    async def compress_image(self, file_data: bytes, quality: int = 85) -> bytes:
        """Return the image compressed at `quality` (1 to 100), or `file_data` unchanged if compression saves nothing.

        Raises:
            FileTypeNotSupportedError: the data is not an image.
            FileCorruptedError: the image does not decode completely.
            DecoderLimitError: the image has too many pixels or frames, or needs too much memory or time.
        """
        content_type, _, _ = self.detect_file_type(file_data)
        if not content_type.startswith("image/"):
            raise FileTypeNotSupportedError(f"compress_image accepts images only; the data is {content_type}")
        profile = self.settings.profile.model_copy(
            update={"quality": Profile(quality=quality).quality, "ssim": None, "variants": ()}
        )
        with _temporary_file(file_data, self.settings) as source:
            prepared = await self._get_codec().prepare(source, source.with_name("prepared"), content_type, profile)
            return await asyncio.to_thread(prepared.path.read_bytes)

    async def process_file_batch(
        self,
        urls: Sequence[str],
        user_id: UUID | str | None,
        generation_id: UUID | str,
        max_concurrent: int = 3,
        progress_callback: BatchCallback | None = None,
    ) -> ProcessingResult:
        """Download, process and store the files of a generation: in Supabase, or in OUT_DIR without SUPABASE_URL.

        A failed file does not stop the others; it is listed in `failed_files`. An error of the callback is only logged.

        Raises:
            ValueError: no URL, more than MAX_BATCH_SIZE URLs, or `max_concurrent` below 1.
            FileProcessingError: the task is cancelled, or (`retryable`) a worker runs it or nothing could be recorded.
            DatabaseUnavailableError: Supabase does not answer.
        """
        job = job_from_urls(urls, user_id, generation_id, max_concurrent, self.settings)
        return await self.process_job(job, progress_callback)

    async def process_job(
        self, job: Job, progress_callback: BatchCallback | None = None, on_bytes: BytesCallback | None = None
    ) -> ProcessingResult:
        """Process the files of a job, as `process_file_batch` does. Raises the same errors.

        `on_bytes` is called as bytes of a file are received.
        """
        started = time.perf_counter()
        reporter = BatchReporter(progress_callback, len(job.files))
        async with self._open_deps() as (deps, records):
            result = await run_batch(job, deps, records, reporter, on_bytes)
        return ProcessingResult(
            success=all(file.is_skipped for file in result.failed),
            total_files=len(job.files),
            processed_files=result.stored,
            failed_files=result.failed,
            processing_time=time.perf_counter() - started,
            finished_at=datetime.now(UTC),
        )

    def _get_codec(self) -> Codec:
        if self._codec is None:
            self._codec = Codec(self.settings)
        return self._codec

    @contextlib.asynccontextmanager
    async def _open_deps(self) -> AsyncIterator[tuple[PipelineDeps, TaskRecords | None]]:
        """Open what a batch needs, and yield it with the task records, which are None unless SUPABASE_URL is set."""
        settings = self.settings
        async with contextlib.AsyncExitStack() as stack:
            downloader = await stack.enter_async_context(Downloader(settings, self._observer))
            if settings.supabase_url is None:
                storage = FolderStorage(settings.out_dir, settings.storage_bucket)
                yield PipelineDeps(settings, downloader, self._get_codec(), storage, self._observer), None
                return
            supabase = await stack.enter_async_context(Supabase(settings, self._observer))
            records = TaskRecords(supabase, ImmutableSources(settings))
            yield (
                PipelineDeps(
                    settings,
                    downloader,
                    self._get_codec(),
                    supabase,
                    self._observer,
                    records.find_stored,
                    records.read_data_uri,
                    records.claim_object,
                    records.claim_objects,
                ),
                records,
            )


@contextlib.contextmanager
def _temporary_file(file_data: bytes, settings: MediaSettings) -> Iterator[Path]:
    """Yield the path of a temporary file with the data. The file's folder is removed when the context ends."""
    with tempfile.TemporaryDirectory(prefix="outlast.api-", dir=settings.temp_dir) as folder:
        source = Path(folder) / "source"
        source.write_bytes(file_data)
        yield source


async_file_processor: Final = AsyncFileProcessor()
"""The processor that the API documentation names. It reads its settings from the environment on first use."""

__all__ = [
    "AsyncFileProcessor",
    "FileProcessingError",
    "FileSizeExceededError",
    "FileTypeNotSupportedError",
    "async_file_processor",
]
