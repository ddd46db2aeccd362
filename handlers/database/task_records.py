"""What the database is told and asked about a task: begin, known files, finish, heartbeat."""

from typing import Any, TypeVar
from uuid import UUID

from pydantic import ValidationError

from handlers.database.client import Supabase
from handlers.errors import DatabaseUnavailableError, SourceGoneError, StorageUnavailableError
from handlers.settings import MediaSettings
from handlers.sources.plan import parse_json_text
from schemas.base import Frozen
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import Job
from schemas.tasks import BeginReply, FinishReply, HeartbeatReply, TaskStatus
from schemas.urls import data_reference, is_data_uri, redact_url

LEASE_SECONDS = 30
T = TypeVar("T", bound=Frozen)


class TaskRecords:
    """The functions of `deploy/supabase/migrations`, one method each.

    Every method raises DatabaseUnavailableError when the database gives no answer.
    """

    def __init__(self, settings: MediaSettings, supabase: Supabase) -> None:
        self._settings = settings
        self._supabase = supabase

    async def begin(self, job: Job, lease: UUID, worker: str, attempt: int) -> BeginReply:
        """Take the task for `LEASE_SECONDS`, or learn why not."""
        answer = await self._supabase.call(
            "outlast_begin",
            {
                "p_job": task_row(job) | {"attempt": attempt},
                "p_lease": str(lease),
                "p_worker": worker,
                "p_lease_seconds": LEASE_SECONDS,
            },
        )
        return _read(BeginReply, answer)

    async def find_stored(self, user_id: str | None, source_sha256: str, profile: str) -> ProcessedFile | None:
        """Return a file this user has stored from the same bytes with the same profile."""
        answer = await self._supabase.call(
            "outlast_known", {"p_user_id": user_id, "p_source_sha256": source_sha256, "p_profile": profile}
        )
        return None if answer is None else _read(ProcessedFile, answer)

    async def claim_object(self, bucket: str, path: str, user_id: str | None) -> None:
        """Say that an object is about to be stored, so that it is on record whatever comes, and not removed meanwhile.

        Raises:
            StorageUnavailableError: it is being removed just now.
        """
        answer = await self._supabase.call("outlast_claim", {"p_bucket": bucket, "p_path": path, "p_user_id": user_id})
        if answer["state"] != "live":
            raise StorageUnavailableError(
                "an object of these bytes is being removed just now; it is stored again later"
            )

    async def finish(
        self,
        job: Job,
        lease: UUID,
        status: TaskStatus,
        stored: list[ProcessedFile],
        failed: list[FailedFile],
    ) -> FinishReply:
        """Record files, task and generation row in one transaction."""
        answer = await self._supabase.call(
            "outlast_finish",
            {
                "p_task_id": str(job.task_id),
                "p_lease": str(lease),
                "p_status": status,
                "p_files": [file.model_dump(mode="json") for file in stored],
                "p_failed": [_failure(file) for file in failed],
                "p_error": {"code": failed[0].code, "message": failed[0].error} if failed else None,
            },
        )
        return _read(FinishReply, answer)

    async def heartbeat(self, worker: str, leases: list[UUID], stats: dict[str, Any] | None) -> HeartbeatReply:
        """Renew the leases of what runs here; learn which were lost or cancelled. No `stats`: the last ones stay."""
        answer = await self._supabase.call(
            "outlast_heartbeat",
            {
                "p_worker": worker,
                "p_leases": [str(lease) for lease in leases],
                "p_stats": stats,
                "p_lease_seconds": LEASE_SECONDS,
            },
        )
        return _read(HeartbeatReply, answer)

    async def cancel(self, task_id: UUID) -> bool:
        """Cancel a task, known or not; return whether it is cancelled now: one that has ended stays as it is."""
        return bool((await self._supabase.call("outlast_cancel", {"p_task_id": str(task_id)}))["cancelled"])

    async def archive(self, letters: list[dict[str, Any]], keep_seconds: int, by: str) -> int:
        """Keep discarded dead letters (`id`, `item`, `message_type`, `body` in base64); return how many are kept."""
        answer = await self._supabase.call(
            "outlast_archive", {"p_letters": letters, "p_keep_seconds": keep_seconds, "p_by": by}
        )
        return int(answer["archived"])

    async def read_inline(self, generation_id: str, reference: str) -> str:
        """Return the `data:` URI that was too large for a message, read from the generation's row."""
        settings = self._settings
        row = await self._supabase.first_row(
            settings.generations_schema, settings.generations_table, settings.generations_id_column, generation_id
        )
        for url in _data_urls(None if row is None else parse_json_text(row.get(settings.generations_output_column))):
            if data_reference(url) == reference:
                return url
        raise SourceGoneError(f"{reference} is not in the generation's row any more")


def task_row(job: Job) -> dict[str, Any]:
    """Return a job as the database's functions take it."""
    row = job.model_dump(mode="json", exclude={"files", "profile", "max_concurrent"})
    return row | {
        "profile": job.profile.key,
        "positions": [file.position for file in job.files],
        "source_keys": [file.source_key for file in job.files],
    }


def _read(kind: type[T], answer: object) -> T:
    """Read what a function answered."""
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        raise DatabaseUnavailableError(
            f"the database answered what is no {kind.__name__}: are the migrations of this version applied?"
        ) from error


def _failure(file: FailedFile) -> dict[str, Any]:
    """Return a failed file as it may be written down: its URL without the query that may hold a signature."""
    return file.model_dump(mode="json") | {"url": redact_url(file.url)}


def _data_urls(output: Any) -> list[str]:  # noqa: ANN401 - any JSON
    stack, found = [output], []
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, str) and is_data_uri(node):
            found.append(node)
    return found
