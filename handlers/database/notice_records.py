"""The SQL functions for notices: what has ended, what became a dead letter, and where files come from."""

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
    """A task that has ended, and its generation. `status` is null while another task of the output has not ended."""

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
        """What a notice about the generation is about: the same for all of its tasks."""
        return f"{self.binding} {self.generation_id} {self.output} {self.status} {self.ended_at}"


class FailureGroup(Frozen):
    """Files from one host that became dead letters with one code; `generation_id` is an example."""

    code: str
    host: str | None = None
    files: int
    generation_id: str | None = None


class Digest(Frozen):
    """The files that became dead letters since the last digest; `groups` are the ten largest."""

    until: datetime
    total: int
    groups: list[FailureGroup] = Field(default_factory=list)


class SourceHost(Frozen):
    """The files of one host; `codes` are the numbers of failed files by error code."""

    host: str
    files: int
    failed: int
    codes: dict[str, int] = Field(default_factory=dict)


class NoticeRecords:
    """Every method raises DatabaseUnavailableError when the database does not answer."""

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def ended(self) -> list[EndedTask]:
        """Return tasks that ended and were not noted, oldest first."""
        answer = await self._supabase.call("outlast_notices", {"p_limit": PAGE_TASKS})
        return parse_answer("outlast_notices", list[EndedTask], answer)

    async def note_ended(self, tasks: Sequence[EndedTask]) -> None:
        """Record that the notices of these tasks were published."""
        items: list[dict[str, Any]] = [
            {"task_id": str(task.task_id), "finished_at": task.finished_at.isoformat()} for task in tasks
        ]
        await self._supabase.call("outlast_note_notices", {"p_items": items})

    async def digest(self) -> Digest:
        """Return the files that became dead letters since the last digest that was recorded."""
        return parse_answer("outlast_digest", Digest, await self._supabase.call("outlast_digest", {}))

    async def note_digest(self, until: datetime) -> None:
        """Record that the digest until then was published."""
        await self._supabase.call("outlast_note_digest", {"p_until": until.isoformat()})

    async def source_hosts(self, since: datetime) -> list[SourceHost]:
        """Return the ten hosts with the most files since then."""
        answer = await self._supabase.call("outlast_source_hosts", {"p_since": since.isoformat()})
        return parse_answer("outlast_source_hosts", list[SourceHost], answer)
