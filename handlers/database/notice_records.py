"""The SQL functions for notices: tasks that ended, files that became dead letters, and the hosts of source files."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import Field

from handlers.database.client import Supabase
from handlers.database.rpc import parse_answer
from schemas.base import Frozen

PAGE_TASKS: Final = 200


class EndedTask(Frozen):
    """A task that has ended, and the result of all tasks of the same output, which a notice reports.

    `status` is null while another of these tasks has not ended. `failed` has at most 20 files.
    """

    task_id: UUID
    finished_at: datetime
    binding: str
    generation_id: str
    user_id: str | None = None
    request_id: str | None = None
    output: str | None = None
    status: Literal["completed", "partial", "failed"] | None = None
    ended_at: datetime | None = None
    total: int | None = None
    stored: int | None = None
    failed: list[dict[str, str | None]] = Field(default_factory=list)

    @property
    def subject(self) -> str:
        """A text that is the same for all tasks of one result, so that one notice is sent for them."""
        return f"{self.binding} {self.generation_id} {self.output} {self.status} {self.ended_at}"


class FailureGroup(Frozen):
    """Dead letters with one code: files from one host, or undecodable messages. `generation_id` is an example."""

    code: str
    host: str | None = None
    files: int
    generation_id: str | None = None


class Digest(Frozen):
    """The files and undecodable messages that became dead letters since the last digest; `groups`: the ten largest."""

    until: datetime
    total: int
    groups: list[FailureGroup] = Field(default_factory=list)


class SourceHost(Frozen):
    """The files from one host in ended tasks; `codes` are the numbers of failed and skipped files by code."""

    host: str
    files: int
    failed: int
    codes: dict[str, int] = Field(default_factory=dict)


class NoticeRecords:
    """The functions of `deploy/supabase/migrations` for notices and for the hosts of files.

    Every method raises DatabaseUnavailableError when the database does not answer.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def ended(self) -> list[EndedTask]:
        """Return at most PAGE_TASKS tasks that ended in the last hour and are not yet noted, oldest first."""
        answer = await self._supabase.call("outlast_notices", {"p_limit": PAGE_TASKS})
        return parse_answer("outlast_notices", list[EndedTask], answer)

    async def note_ended(self, tasks: Sequence[EndedTask]) -> None:
        """Record that the notices of these tasks were published."""
        items: list[dict[str, Any]] = [
            {"task_id": str(task.task_id), "finished_at": task.finished_at.isoformat()} for task in tasks
        ]
        await self._supabase.call("outlast_note_notices", {"p_items": items})

    async def digest(self) -> Digest:
        """Return what became a dead letter since the digest that `note_digest` recorded, in the last day at most."""
        return parse_answer("outlast_digest", Digest, await self._supabase.call("outlast_digest", {}))

    async def note_digest(self, until: datetime) -> None:
        """Record that the digest up to `until` was published."""
        await self._supabase.call("outlast_note_digest", {"p_until": until.isoformat()})

    async def source_hosts(self, since: datetime) -> list[SourceHost]:
        """Return the ten hosts with the most files in tasks that ended since `since` (at most the last 50,000)."""
        answer = await self._supabase.call("outlast_source_hosts", {"p_since": since.isoformat()})
        return parse_answer("outlast_source_hosts", list[SourceHost], answer)
