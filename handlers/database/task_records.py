"""The SQL functions that record the work on a task: begin, finish, heartbeat, and others that a worker calls."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from handlers.database.client import Supabase
from handlers.database.rpc import parse_answer
from handlers.download.immutable import ImmutableSources
from handlers.errors import SourceGoneError, StorageUnavailableError
from handlers.json_text import parse_json
from handlers.sources.output_urls import find_data_uri
from handlers.sources.refusals import refusal_of
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import Job, JobFile, identity_of
from schemas.tasks import BeginReply, FinishReply, HeartbeatReply, TaskStatus
from schemas.urls import MAX_SOURCE_URL_CHARACTERS, redact_url

LEASE_SECONDS: Final = 30
MAX_OUTPUT_BYTES: Final = 64 * 1024 * 1024
"""The size of the JSON text, in bytes, above which the output of a row is not read."""


class TaskRecords:
    """The task functions of `deploy/supabase/migrations`, one method each.

    Every method raises DatabaseUnavailableError when the database does not answer. With `immutable`, `begin` also
    returns stored files of the user from the same URLs of these sources. If a job needs no other files, `begin`
    completes its task.
    """

    def __init__(self, supabase: Supabase, immutable: ImmutableSources | None = None) -> None:
        self._supabase = supabase
        self._immutable = immutable

    async def begin(self, job: Job, lease: UUID, worker: str, attempt: int) -> BeginReply:
        """Take the lease of a task for LEASE_SECONDS. `BeginReply.state` is `run` if this succeeded.

        The state is `recorded` if all files of the job are known by their URLs; then the task is completed.
        """
        row = task_row(job) | {"attempt": attempt}
        if self._immutable is not None and (keys := self._immutable.keys(job.files)):
            row["immutable"] = keys
            if len(keys) == len(job.files) and job.generation_id is not None and job.fal_result is None:
                row["duplicates"] = {
                    "bucket": self._supabase.bucket,
                    "max_bytes": self._immutable.max_file_bytes,
                    "files": [_identity_row(file, job.generation_id, job.binding) for file in job.files],
                }
        answer = await self._supabase.call_batched(
            "outlast_begin",
            {
                "p_job": row,
                "p_lease": str(lease),
                "p_worker": worker,
                "p_lease_seconds": LEASE_SECONDS,
            },
            user=job.user_id if job.fal_result is None else None,
        )
        return parse_answer("outlast_begin", BeginReply, answer)

    async def fal_result(self, job: Job) -> str:
        """Write FAL's error, or an output without files, to the generation's row; return what was done.

        `written`, `not_wanted` (the binding has no `fal_finishes`, or the row is deleted), `finished` (the row has a
        result already), `no_generation`, or `rejected: ...`.
        """
        return str((await self._supabase.call("outlast_fal_result", {"p_job": task_row(job)}))["state"])

    async def note_public_url(self, url: str) -> None:
        """Record the URL at which browsers reach the project. The URLs of files in public buckets begin with it."""
        await self._supabase.call("outlast_note_public_url", {"p_url": url.rstrip("/")})

    async def note_undecodable(self, code: str) -> None:
        """Count a message that became a dead letter because it could not be decoded, for the next digest."""
        await self._supabase.call("outlast_note_undecodable", {"p_code": code})

    async def find_stored(self, user_id: str | None, source_sha256: str, profile: str) -> ProcessedFile | None:
        """Return a file that this user has stored from the same bytes with the same profile, or None."""
        arguments = {"p_user_id": user_id, "p_source_sha256": source_sha256, "p_profile": profile}
        answer = await self._supabase.call_batched("outlast_known", arguments, user_id)
        return None if answer is None else parse_answer("outlast_known", ProcessedFile, answer)

    async def claim_object(self, bucket: str, path: str, user_id: str | None) -> None:
        """Record an object before it is stored. So it is known after a crash, and is not removed while it is stored.

        Raises:
            StorageUnavailableError: the object is being removed at the moment.
        """
        arguments = {"p_bucket": bucket, "p_path": path, "p_user_id": user_id}
        _check_claimed(await self._supabase.call_batched("outlast_claim", arguments, user_id))

    async def claim_objects(self, bucket: str, paths: Sequence[str], user_id: str | None) -> None:
        """Record several objects, a picture and its variants, as `claim_object` does.

        Raises:
            StorageUnavailableError: one of them is being removed at the moment.
        """
        arguments = {"p_bucket": bucket, "p_paths": list(paths), "p_user_id": user_id}
        _check_claimed(await self._supabase.call_batched("outlast_claim_all", arguments, user_id))

    async def finish(
        self,
        job: Job,
        lease: UUID,
        status: TaskStatus,
        stored: list[ProcessedFile],
        failed: list[FailedFile],
    ) -> FinishReply:
        """Record the files, the task and the generation's row in one transaction."""
        failure = next((file for file in failed if not file.is_skipped), None)
        answer = await self._supabase.call_batched(
            "outlast_finish",
            {
                "p_task_id": str(job.task_id),
                "p_lease": str(lease),
                "p_status": status,
                "p_files": [file.model_dump(mode="json") for file in stored],
                "p_failed": [_failed_row(file) for file in failed],
                "p_error": None if failure is None else {"code": failure.code, "message": failure.error},
            },
            user=job.user_id,
        )
        return parse_answer("outlast_finish", FinishReply, answer)

    async def heartbeat(self, worker: str, leases: list[UUID], stats: dict[str, Any] | None) -> HeartbeatReply:
        """Renew the leases of this worker; return lost leases, cancelled tasks and paused queues.

        `stats=None` keeps the last statistics.
        """
        answer = await self._supabase.call(
            "outlast_heartbeat",
            {
                "p_worker": worker,
                "p_leases": [str(lease) for lease in leases],
                "p_stats": stats,
                "p_lease_seconds": LEASE_SECONDS,
            },
        )
        return parse_answer("outlast_heartbeat", HeartbeatReply, answer)

    async def cancel(self, task_id: UUID) -> bool:
        """Cancel a task, which need not be recorded yet; return False if it has ended in another state already."""
        return bool((await self._supabase.call("outlast_cancel", {"p_task_id": str(task_id)}))["cancelled"])

    async def archive(self, dead_letters: list[dict[str, Any]], keep_seconds: int, by: str) -> int:
        """Store discarded dead letters, each with `id`, `item`, `message_type` and `body` (base64); return how many."""
        answer = await self._supabase.call(
            "outlast_archive", {"p_letters": dead_letters, "p_keep_seconds": keep_seconds, "p_by": by}
        )
        return int(answer["archived"])

    async def read_data_uri(self, binding: str, generation_id: str, reference: str) -> str:
        """Return the `data:` URI that `reference` stands for, from the output of the generation's row.

        Raises:
            SourceGoneError: the row does not have it. Retryable, because FAL's webhook can arrive before the
                application has written the output.
        """
        arguments = {"p_generation_id": generation_id, "p_max_bytes": MAX_OUTPUT_BYTES, "p_binding": binding}
        row = await self._supabase.call("outlast_output", arguments)
        url = await asyncio.to_thread(_find_data_uri, row["output"], reference)
        if url is not None:
            return url
        raise SourceGoneError(f"{reference} is not in the output of the generation's row", retryable=True)


def task_row(job: Job) -> dict[str, Any]:
    """Return the JSON object that the SQL functions take as a job."""
    row = job.model_dump(mode="json", exclude={"files", "skipped", "profile", "max_concurrent"})
    return row | {
        "profile": job.profile.key,
        "positions": [file.position for file in job.files],
        "source_keys": [file.source_key for file in job.files],
        "files": [_media_entry(file) for file in job.files] + [file.model_dump(mode="json") for file in job.skipped],
    }


def _identity_row(file: JobFile, generation_id: str, binding: str) -> dict[str, Any]:
    """Return the result of `identity_of` with the id as text, for JSON."""
    identity = identity_of(file, generation_id, binding)
    return identity | {"id": str(identity["id"])}


def _media_entry(file: JobFile) -> dict[str, Any]:
    """Return the entry of a file in `media` before the file is stored. The size of the entry is limited.

    A placeholder gets no `field`, `source_url` and `original_filename`.
    """
    entry = {"position": file.position, "source_key": file.source_key}
    if refusal_of(file.url) is not None:
        return entry
    return entry | {
        "field": file.field,
        "source_url": redact_url(file.url)[:MAX_SOURCE_URL_CHARACTERS],
        "original_filename": file.original_filename,
    }


def _failed_row(file: FailedFile) -> dict[str, Any]:
    """Return a failed file with its URL redacted: the query may contain a signature."""
    return file.model_dump(mode="json") | {"url": redact_url(file.url)}


def _check_claimed(answer: Mapping[str, Any]) -> None:
    if answer["state"] != "live":
        raise StorageUnavailableError(
            "an object with the same content is being removed at the moment; the file is stored at the next attempt"
        )


def _find_data_uri(output_json: str | None, reference: str) -> str | None:
    """Return the `data:` URI that the reference stands for, from an output in JSON; None if the output has none."""
    try:
        return None if output_json is None else find_data_uri(parse_json(output_json), reference)
    except ValueError:
        return None
