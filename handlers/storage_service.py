"""The Python API for storing a single file from memory, or all files of a generation."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from handlers.async_file_processor import AsyncFileProcessor, async_file_processor
from handlers.errors import FileProcessingError, FileTypeNotSupportedError
from handlers.settings import MediaSettings
from schemas.files import ProcessedFile, ProcessingResult
from schemas.formats import ImageFormat
from schemas.jobs import Job, JobFile, output_key_for, task_id_for
from schemas.storage import FileUploadRequest, StorageBucket
from schemas.urls import source_key


class StorageService:
    """Stores files with the pipeline, which detects the type, names objects by their hash, and stores nothing twice.

    Settings and codec processes are those of `processor`. An instance may be used from one event loop at a time.
    """

    def __init__(self, processor: AsyncFileProcessor = async_file_processor) -> None:
        self._processor = processor

    async def upload_file(
        self, user_id: UUID | str | None, file_data: bytes, upload_request: FileUploadRequest
    ) -> ProcessedFile:
        """Validate a file and store it unchanged in the user's folder.

        The same file of a user in the same bucket always gets the same `id`.
        The bucket name `generations` means STORAGE_BUCKET; any other name is the name of a bucket.

        Raises:
            ValueError: `file_size` is not the size of the data.
            FileTypeNotSupportedError: the content does not have the requested type.
            FileProcessingError: the file is too large or corrupted, or Storage refuses it; see `code`.
            DatabaseUnavailableError: Supabase does not answer.
        """
        if upload_request.file_size != len(file_data):
            raise ValueError(f"file_size is {upload_request.file_size} bytes, but the data has {len(file_data)}")
        content_type, _, _ = self._processor.detect_file_type(file_data, upload_request.filename)
        if content_type != upload_request.content_type:
            raise FileTypeNotSupportedError(f"the content is {content_type}, not {upload_request.content_type}")
        settings = self._processor.settings
        job = _job(None if user_id is None else str(user_id), file_data, upload_request, settings)
        if upload_request.bucket_name in {StorageBucket.GENERATIONS, settings.storage_bucket}:
            result = await self._processor.process_job(job)
        else:
            other_bucket = settings.model_copy(update={"storage_bucket": upload_request.bucket_name})
            async with AsyncFileProcessor(other_bucket) as processor:
                result = await processor.process_job(job)
        for failed in result.failed_files:
            raise FileProcessingError(
                failed.error, code=failed.code, retryable=failed.retryable, retry_after=failed.retry_after
            )
        return result.processed_files[0]

    async def upload_generation_result(
        self, user_id: UUID | str | None, generation_id: UUID | str, file_urls: Sequence[str]
    ) -> ProcessingResult:
        """Download, process and store the files of a generation, MAX_CONCURRENT at once.

        Raises the errors of `AsyncFileProcessor.process_file_batch`.
        """
        return await self._processor.process_file_batch(
            file_urls, user_id, generation_id, self._processor.settings.max_concurrent
        )


def _job(user_id: str | None, file_data: bytes, request: FileUploadRequest, settings: MediaSettings) -> Job:
    """Return the job that stores one file unchanged. Its generation id is `upload:<user>`, or `upload:anonymous`."""
    url = f"data:{request.content_type};base64,{base64.b64encode(file_data).decode()}"
    key = source_key(f"{url}#{request.bucket_name}")
    file = JobFile(position=0, url=url, source_key=key, file_name=request.filename)
    profile = settings.profile.model_copy(update={"format": ImageFormat.KEEP, "strip_metadata": False, "variants": ()})
    generation_id = f"upload:{user_id or 'anonymous'}"
    return Job(
        task_id=task_id_for(generation_id, [file], profile),
        generation_id=generation_id,
        user_id=user_id,
        source="api",
        files=(file,),
        total_files=1,
        output_key=output_key_for([key]),
        profile=profile,
        own_variants=True,
        event_at=datetime.now(UTC),
    )


storage_service: Final = StorageService()
"""The service that the API documentation names. It reads its settings from the environment on first use."""
