"""The response bodies of the HTTP API that no other module of this package defines."""

from typing import Any
from uuid import UUID

from pydantic import ConfigDict

from schemas.base import Frozen
from schemas.dead_letters import DeadLetter, DeadLetterGroup, KeptDeadLetter


class Problem(Frozen):
    """An error (RFC 9457). `code` is stable, `detail` describes this case, `hint` is the remedy."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    hint: str


class Accepted(Frozen):
    """The ids of the tasks of a webhook's jobs."""

    task_ids: list[UUID]


class IgnoredEvent(Frozen):
    """The reason why a verified webhook was ignored."""

    ignored: str


class TaskAccepted(Frozen):
    """The id of a submitted task."""

    task_id: UUID


class TaskCancelled(Frozen):
    """Whether a task is cancelled now."""

    task_id: UUID
    cancelled: bool


class DeadLetterList(Frozen):
    """The matching dead letters, the oldest failure first. `total` includes those beyond `limit`."""

    items: list[DeadLetter]
    total: int


class DeadLetterGroupList(Frozen):
    """Groups of dead letters. `total` includes those beyond the limit."""

    items: list[DeadLetterGroup]
    total: int


class DeadLetterBatchResult(Frozen):
    """The number of matching dead letters (`count`) and, unless `dry_run`, what the operation did with them."""

    count: int
    dry_run: bool
    replayed: int | None = None
    discarded: int | None = None
    kept: list[KeptDeadLetter] | None = None
    aborted: bool | None = None


class Health(Frozen):
    """The process is alive or ready."""

    status: str


class AnyObject(Frozen):
    """A JSON object with any fields."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Any]
