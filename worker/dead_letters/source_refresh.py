"""Whether a job whose source was gone can be tried again: it may have recovered, or FAL's queue knows better."""

import asyncio
from typing import Any

from handlers.database.client import Supabase
from handlers.download import Downloader
from handlers.download.allowlist import Allowlist
from handlers.errors import DatabaseUnavailableError, SourceForbiddenError, SourceGoneError, SourceUnavailableError
from handlers.sources.fal_queue import FalQueueClient
from handlers.sources.plan import find_files, plan_jobs
from schemas.events import CompletedGeneration
from schemas.jobs import Job, JobFile
from schemas.urls import is_data_uri, name_from_url
from worker.dead_letters.summary import host_of
from worker.settings import Settings

REFUSALS = (SourceGoneError, SourceForbiddenError, SourceUnavailableError, DatabaseUnavailableError)


class StaysError(Exception):
    """The letter stays where it is; the message says why and what would help."""


class SourceRefresher:
    """Finds out where a job's files are now."""

    def __init__(self, settings: Settings, downloader: Downloader, supabase: Supabase | None) -> None:
        self._settings = settings
        self._downloader = downloader
        self._supabase = supabase
        self._allowlist = Allowlist(settings.source_allowlist)
        self._queue = None if settings.fal_key is None else FalQueueClient(settings.fal_queue_url, settings.fal_key)

    async def jobs(self, job: Job) -> tuple[Job, ...]:
        """Return what to publish in place of the job: itself, itself with fresh URLs, or what FAL put out after all.

        Raises:
            StaysError: there is no use in trying it again.
        """
        if not job.files:
            return await self._planned(job)
        gone = await self._gone(job.files)
        if not gone:
            return (job,)
        where = ", ".join(sorted({host_of(file.url) or "?" for file in gone}))
        output = await self._output(job, f"gone at {where}")
        fresh = {file.source_key: _fresh(file, self._found(output)) for file in gone}
        if await self._gone(tuple(fresh.values())):
            raise StaysError(f"gone at {where}, and what FAL's queue names now is gone as well")
        files = tuple(fresh.get(file.source_key, file) for file in job.files)
        return (job.model_copy(update={"files": files}),)

    async def _gone(self, files: tuple[JobFile, ...]) -> tuple[JobFile, ...]:
        """Return the files whose source says they are not there; one that gives no answer is left to the worker."""
        answers = await asyncio.gather(*(self._is_gone(file.url) for file in files))
        return tuple(file for file, gone in zip(files, answers, strict=True) if gone)

    async def _is_gone(self, url: str) -> bool:
        try:
            await self._downloader.probe(url)
        except SourceUnavailableError:
            return False
        except (SourceGoneError, SourceForbiddenError):
            return True
        return False

    def _found(self, output: Any) -> tuple[JobFile, ...]:  # noqa: ANN401 - any JSON
        return find_files(output, self._settings, self._allowlist)

    async def _planned(self, job: Job) -> tuple[Job, ...]:
        output = await self._output(job, "FAL's webhook brought no files")
        event = CompletedGeneration(
            source=job.source,
            generation_id=job.generation_id,
            request_id=job.request_id,
            user_id=job.user_id,
            output=output,
        )
        jobs = tuple(job for job in plan_jobs(event, self._settings, self._allowlist) if job.files)
        if not jobs:
            raise StaysError("FAL's queue has the result, and there are no files in it")
        return tuple(planned.model_copy(update={"queue": job.queue}) for planned in jobs)

    async def _output(self, job: Job, trouble: str) -> Any:  # noqa: ANN401 - any JSON
        """Ask FAL's queue for the request's result."""
        if self._queue is None:
            raise StaysError(f"{trouble}, and FAL_KEY is not set, so FAL cannot be asked for it again")
        if self._supabase is None:
            raise StaysError(f"{trouble}, and SUPABASE_URL is not set, so the generation's FAL model is not known")
        try:
            model, request_id = await self._request(job, self._supabase)
            return await self._queue.result(model, request_id)
        except REFUSALS as error:
            raise StaysError(f"{trouble}, and {error}") from None

    async def _request(self, job: Job, supabase: Supabase) -> tuple[str, str]:
        """Return FAL's model and request id, from the generation's row."""
        settings = self._settings
        column, value = settings.generations_id_column, job.generation_id
        if value is None:
            column, value = settings.generations_request_column, job.request_id
        if value is None:
            raise SourceGoneError("the job names neither a generation nor a FAL request")
        row = await supabase.row(settings.generations_schema, settings.generations_table, column, value)
        if row is None:
            raise SourceGoneError(f"no row of {settings.generations_table} has this {column}")
        model = row.get(settings.generations_model_column)
        request_id = job.request_id or row.get(settings.generations_request_column)
        if not model or not request_id:
            missing = settings.generations_model_column if request_id else settings.generations_request_column
            raise SourceGoneError(
                f"the generation's row has no {missing}: fill it, or set GENERATIONS_MODEL_COLUMN and "
                "GENERATIONS_REQUEST_COLUMN to the right ones"
            )
        return str(model), str(request_id)


def _fresh(file: JobFile, found: tuple[JobFile, ...]) -> JobFile:
    """Return the file with the URL that the fresh output has in its place, else under its name."""
    known = {one.position: one for one in found}.get(file.position)
    if known is None:
        name = _name(file)
        known = next((one for one in found if _name(one) == name), None)
    if known is None:
        raise StaysError(f"FAL's result has no file at position {file.position}, and none called {_name(file)}")
    return file.model_copy(update={"url": known.url})


def _name(file: JobFile) -> str:
    return file.file_name or ("data" if is_data_uri(file.url) else name_from_url(file.url))
