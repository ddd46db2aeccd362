"""Check whether a job whose source was gone can be replayed: the file may be back, or FAL may have a new URL."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from handlers.database.client import Supabase
from handlers.download import Downloader
from handlers.download.allowlist import Allowlist
from handlers.errors import (
    DatabaseUnavailableError,
    FileProcessingError,
    RowRejectedError,
    SourceForbiddenError,
    SourceGoneError,
    SourceUnavailableError,
)
from handlers.sources.fal_queue import FalQueueClient
from handlers.sources.outputs import find_files
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration
from schemas.jobs import DEFAULT_BINDING, Job, JobFile
from schemas.urls import is_data_uri, name_from_url
from worker.dead_letters.summary import host_of
from worker.settings import Settings

LOOKUP_ERRORS: Final = (
    SourceGoneError,
    SourceForbiddenError,
    SourceUnavailableError,
    DatabaseUnavailableError,
    RowRejectedError,
)


class NotReplayableError(Exception):
    """A replay would fail again, so the dead letter is kept. The message says why and what would help.

    `retryable`: it may succeed later, without a change.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class _TableNames:
    """Where the rows of a binding are, and the names of its columns."""

    schema: str
    table: str
    id: str
    request: str | None
    model: str | None


class SourceRefresher:
    """Returns the jobs to publish for a job whose source was gone."""

    def __init__(self, settings: Settings, downloader: Downloader, supabase: Supabase | None) -> None:
        self._settings = settings
        self._downloader = downloader
        self._supabase = supabase
        self._allowlist = Allowlist(settings.source_allowlist)
        self._fal_queue = None if settings.fal_key is None else FalQueueClient(settings.fal_queue_url, settings.fal_key)

    async def refresh(self, job: Job) -> tuple[Job, ...]:
        """Return the job unchanged if its files are available, the job with fresh URLs, or jobs for FAL's result.

        Raises:
            NotReplayableError: the files are gone and no other URLs were found, or FAL's result was not obtained.
        """
        if job.is_result_only:
            return (job,)
        if not job.files and not job.skipped:
            return await self._plan_jobs(job)
        gone = await self._gone_files(job.files)
        if not gone:
            return (job,)
        hosts = ", ".join(sorted({host_of(file.url) or "?" for file in gone}))
        output = await self._fetch_output(job, f"gone at {hosts}")
        candidates = find_files(output, self._settings, self._allowlist).files
        refreshed = {file.source_key: _with_fresh_url(file, candidates) for file in gone}
        if await self._gone_files(tuple(refreshed.values())):
            raise NotReplayableError(f"gone at {hosts}, and the URLs in FAL's result are gone as well")
        files = tuple(refreshed.get(file.source_key, file) for file in job.files)
        return (job.model_copy(update={"files": files}),)

    async def request_result(self, job: Job) -> tuple[Job, ...]:
        """Return jobs for FAL's result, for a job whose webhook contained no output.

        Raises:
            FileProcessingError: there is no result, or FAL did not answer this time (then `retryable`).
        """
        try:
            return await self._plan_jobs(job)
        except NotReplayableError as error:
            raise FileProcessingError(str(error), code="no_files", retryable=error.retryable) from None

    async def _gone_files(self, files: tuple[JobFile, ...]) -> tuple[JobFile, ...]:
        """Return the files that are gone. Files of a source that does not answer do not count as gone."""
        results = await asyncio.gather(*(self._is_gone(file.url) for file in files))
        return tuple(file for file, gone in zip(files, results, strict=True) if gone)

    async def _is_gone(self, url: str) -> bool:
        try:
            await self._downloader.probe(url)
        except SourceUnavailableError:
            return False
        except (SourceGoneError, SourceForbiddenError):
            return True
        return False

    async def _plan_jobs(self, job: Job) -> tuple[Job, ...]:
        """Return jobs for the files in FAL's result, for a job whose webhook contained no output."""
        output = await self._fetch_output(job, "FAL's webhook contained no files")
        event = CompletedGeneration(
            source=job.source,
            binding=job.binding,
            generation_id=job.generation_id,
            request_id=job.request_id,
            user_id=job.user_id,
            output=output,
        )
        jobs = tuple(job for job in plan_jobs(event, self._settings, self._allowlist) if job.files)
        if not jobs:
            raise NotReplayableError("FAL's result contains no files")
        return tuple(planned.model_copy(update={"queue": job.queue}) for planned in jobs)

    async def _fetch_output(self, job: Job, problem: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the result of the job's request from FAL's queue. `problem` begins the message of an error."""
        if self._fal_queue is None:
            raise NotReplayableError(f"{problem}; set FAL_KEY to request the result from FAL again")
        if self._supabase is None:
            raise NotReplayableError(f"{problem}; set SUPABASE_URL, because the generation's row has FAL's model id")
        try:
            model, request_id = await self._find_request(job, self._supabase)
            return await self._fal_queue.result(model, request_id)
        except LOOKUP_ERRORS as error:
            raise NotReplayableError(f"{problem}, and {error}", retryable=error.retryable) from None

    async def _find_request(self, job: Job, supabase: Supabase) -> tuple[str, str]:
        """Return FAL's model id and request id from the generation's row. Raises SourceGoneError if one is missing."""
        names = await self._table_names(job.binding, supabase)
        column: str | None = names.id
        value = job.generation_id
        if value is None:
            column, value = names.request, job.request_id
        if value is None or column is None:
            raise SourceGoneError("the job has neither a generation id nor a FAL request id")
        row = await supabase.first_row(names.schema, names.table, column, value)
        if row is None:
            raise SourceGoneError(f"no row of {names.table} has this {column}")
        model = row.get(names.model or "")
        request_id = job.request_id or row.get(names.request or "")
        if not model or not request_id:
            missing = (names.model or "model") if request_id else (names.request or "request id")
            raise SourceGoneError(
                f"the generation's row has no {missing}: fill it in, or name the columns that have these values "
                "(GENERATIONS_MODEL_COLUMN, GENERATIONS_REQUEST_COLUMN; outlast init --model-column, --request-column)"
            )
        if names.request is not None:
            await self._check_owner(supabase, names, str(request_id), row)
        return str(model), str(request_id)

    async def _table_names(self, binding: str, supabase: Supabase) -> "_TableNames":
        """Return where the rows of a binding are. Raises SourceGoneError if there is no such binding."""
        settings = self._settings
        if binding == DEFAULT_BINDING:
            return _TableNames(
                schema=settings.generations_schema,
                table=settings.generations_table,
                id=settings.generations_id_column,
                request=settings.generations_request_column,
                model=settings.generations_model_column,
            )
        found = await supabase.first_row("public", "outlast_bindings", "name", binding)
        if found is None:
            raise SourceGoneError(f"there is no binding {binding}")
        columns = (found[name] for name in ("schema", "table", "id_column", "request_column", "model_column"))
        return _TableNames(*columns)

    async def _check_owner(
        self, supabase: Supabase, names: "_TableNames", request_id: str, row: dict[str, Any]
    ) -> None:
        """Raise SourceGoneError unless this row, and no other, has the request id.

        A user who can write rows could copy another user's request id, and would receive that user's files.
        """
        owners = await supabase.rows(names.schema, names.table, names.request or "", request_id, limit=2)
        if [owner.get(names.id) for owner in owners] != [row.get(names.id)]:
            raise SourceGoneError(f"the request id {request_id} is not that of the generation's row alone")


def _with_fresh_url(file: JobFile, candidates: tuple[JobFile, ...]) -> JobFile:
    """Return the file with the URL of the candidate with the same field, else position, else name.

    Raises:
        NotReplayableError: there is no such candidate.
    """
    match = None
    if file.field is not None:
        match = next((candidate for candidate in candidates if candidate.field == file.field), None)
    if match is None:
        match = next((candidate for candidate in candidates if candidate.position == file.position), None)
    if match is None:
        name = _name(file)
        match = next((candidate for candidate in candidates if _name(candidate) == name), None)
    if match is None:
        raise NotReplayableError(
            f"FAL's result has no file at position {file.position}, and none with the name {_name(file)}"
        )
    return file.model_copy(update={"url": match.url})


def _name(file: JobFile) -> str:
    return file.file_name or ("data" if is_data_uri(file.url) else name_from_url(file.url))
