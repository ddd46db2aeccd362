"""The Python API for a generation's row."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from handlers.database.client import Supabase
from handlers.database.task_records import TaskRecords
from handlers.errors import FileProcessingError
from handlers.settings import MediaSettings
from schemas.files import ProcessedFile
from schemas.jobs import Job, JobFile, file_id_for, output_key_for, task_id_for
from schemas.tasks import TaskStatus
from schemas.urls import source_key


class GenerationService:
    """Writes on generations' rows. Settings come from the environment unless given."""

    def __init__(self, settings: MediaSettings | None = None) -> None:
        self._given = settings

    @property
    def settings(self) -> MediaSettings:
        """The settings in force; read from the environment on first use. Raises SettingsError."""
        if self._given is None:
            self._given = MediaSettings.load()
        return self._given

    async def update_generation_media(
        self, generation_id: UUID | str, processed_files: Sequence[ProcessedFile]
    ) -> None:
        """See that these files stand on record and on the generation's row. One that has no row is no error.

        What `process_file_batch` and `upload_generation_result` stored with Supabase configured is there already; files
        stored elsewhere, or for another generation, become a task of their own, and their list the newest output.

        Raises:
            SettingsError: there is no SUPABASE_URL.
            FileProcessingError: a worker is busy with these very files (then `retryable`), or somebody cancelled them.
            DatabaseUnavailableError: Supabase gives no answer.
        """
        async with Supabase(self.settings) as supabase:
            if not processed_files:
                return
            files = [file.model_dump(mode="json", include={"source_key", "bucket", "path"}) for file in processed_files]
            arguments = {"p_generation_id": str(generation_id), "p_files": files}
            if (await supabase.call("outlast_refresh_media", arguments))["unrecorded"]:
                await _record(
                    TaskRecords(self.settings, supabase), _job(str(generation_id), processed_files, self.settings)
                )


async def _record(records: TaskRecords, told: tuple[Job, list[ProcessedFile]]) -> None:
    job, files = told
    lease = uuid4()
    begun = await records.begin(job, lease, "api", attempt=1)
    if begun.state == "done":
        return
    if begun.state != "run":
        raise FileProcessingError(f"the task {job.task_id} is {begun.state}", retryable=begun.state == "busy")
    await records.finish(job, lease, TaskStatus.COMPLETED, files, [])


def _job(
    generation_id: str, processed_files: Sequence[ProcessedFile], settings: MediaSettings
) -> tuple[Job, list[ProcessedFile]]:
    """Return a job that tells of files which are stored, and the files in the places it gives them."""
    keyed = [(file.source_key or source_key(file.source_url), file) for file in processed_files]
    files = [
        file.model_copy(update={"position": place, "source_key": key, "id": file_id_for(generation_id, key)})
        for place, (key, file) in enumerate(keyed)
    ]
    told = tuple(
        JobFile(
            position=file.position, url=file.source_url, source_key=file.source_key, file_name=file.original_filename
        )
        for file in files
    )
    job = Job(
        task_id=task_id_for(generation_id, told, settings.profile),
        generation_id=generation_id,
        source="api",
        files=told,
        total_files=len(told),
        output_key=output_key_for([file.source_key for file in told]),
        profile=settings.profile,
        event_at=datetime.now(UTC),
    )
    return job, files


generation_service: Final = GenerationService()
"""Configured from the environment on first use."""
