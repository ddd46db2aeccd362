"""The Python API for the media of a generation's row."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from handlers.database.client import Supabase
from handlers.database.task_records import TaskRecords
from handlers.errors import FileProcessingError
from handlers.settings import MediaSettings
from schemas.files import ProcessedFile
from schemas.jobs import DEFAULT_BINDING, Job, JobFile, file_id_for, output_key_for, task_id_for
from schemas.tasks import TaskStatus
from schemas.urls import source_key


class GenerationService:
    """Writes the media of generations. `settings` are read from the environment if none are given."""

    def __init__(self, settings: MediaSettings | None = None) -> None:
        self._settings = settings

    @property
    def settings(self) -> MediaSettings:
        """The settings. They are read from the environment on first use, which may raise SettingsError."""
        if self._settings is None:
            self._settings = MediaSettings.load()
        return self._settings

    async def update_generation_media(
        self, generation_id: UUID | str, processed_files: Sequence[ProcessedFile], binding: str = DEFAULT_BINDING
    ) -> None:
        """Record the files and write them to the generation's row, if it has one.

        Files that `process_file_batch` or `upload_generation_result` stored in Supabase are recorded already. Other
        files are recorded as a new task, and become the newest output of the generation.

        Raises:
            SettingsError: SUPABASE_URL is not set.
            FileProcessingError: a worker processes the same files (then `retryable`), or their task is cancelled.
            DatabaseUnavailableError: Supabase does not answer.
        """
        async with Supabase(self.settings) as supabase:
            if not processed_files:
                return
            files = [file.model_dump(mode="json", include={"source_key", "bucket", "path"}) for file in processed_files]
            arguments = {"p_generation_id": str(generation_id), "p_files": files, "p_binding": binding}
            if (await supabase.call("outlast_refresh_media", arguments))["unrecorded"]:
                renumbered = _renumbered(str(generation_id), processed_files, binding)
                job = _job(str(generation_id), renumbered, self.settings, binding)
                await _record(TaskRecords(supabase), job, renumbered)


def _renumbered(generation_id: str, files: Sequence[ProcessedFile], binding: str) -> list[ProcessedFile]:
    """Return the files, numbered from 0 in the given order, with source keys and with ids of this generation."""
    keyed = [(file.source_key or source_key(file.source_url), file) for file in files]
    return [
        file.model_copy(
            update={"position": position, "source_key": key, "id": file_id_for(generation_id, key, binding)}
        )
        for position, (key, file) in enumerate(keyed)
    ]


def _job(generation_id: str, files: list[ProcessedFile], settings: MediaSettings, binding: str) -> Job:
    """Return a job that has these files."""
    job_files = tuple(
        JobFile(
            position=file.position, url=file.source_url, source_key=file.source_key, file_name=file.original_filename
        )
        for file in files
    )
    return Job(
        task_id=task_id_for(generation_id, job_files, settings.profile, binding),
        binding=binding,
        generation_id=generation_id,
        source="api",
        files=job_files,
        total_files=len(job_files),
        output_key=output_key_for([file.source_key for file in job_files]),
        profile=settings.profile,
        event_at=datetime.now(UTC),
    )


async def _record(records: TaskRecords, job: Job, files: list[ProcessedFile]) -> None:
    """Record the job as a completed task with these files, unless the task is completed already."""
    lease = uuid4()
    reply = await records.begin(job, lease, "api", attempt=1)
    if reply.state == "done":
        return
    if reply.state != "run":
        raise FileProcessingError(f"the task {job.task_id} is {reply.state}", retryable=reply.state == "busy")
    await records.finish(job, lease, TaskStatus.COMPLETED, files, [])


generation_service: Final = GenerationService()
"""The service that the API documentation names. It reads its settings from the environment on first use."""
