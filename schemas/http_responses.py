"""What the HTTP API answers, beside the records themselves."""

from typing import Any
from uuid import UUID

from pydantic import ConfigDict

from schemas.base import Frozen
from schemas.dead_letters import DeadLetter, DeadLetterGroup, KeptDeadLetter


class Problem(Frozen):
    """An error (RFC 9457). `code` is stable; `detail` tells this case, `hint` the remedy."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    hint: str


class Accepted(Frozen):
    """The jobs a webhook became."""

    task_ids: list[UUID]


class IgnoredEvent(Frozen):
    """Why a verified webhook led to nothing."""

    ignored: str


class TaskAccepted(Frozen):
    """A submitted task."""

    task_id: UUID


class TaskCancelled(Frozen):
    """Whether a task is cancelled now."""

    task_id: UUID
    cancelled: bool


class DeadLetterList(Frozen):
    """Dead letters that match, the oldest failure first; `total` counts also those beyond `limit`."""

    items: list[DeadLetter]
    total: int


class DeadLetterGroupList(Frozen):
    """Groups of dead letters."""

    items: list[DeadLetterGroup]
    total: int


class MatchedCount(Frozen):
    """How many letters match (`dry_run`), or what became of them."""

    count: int
    dry_run: bool
    replayed: int | None = None
    discarded: int | None = None
    kept: list[KeptDeadLetter] | None = None
    aborted: bool | None = None


class Health(Frozen):
    """A process is alive, or ready."""

    status: str


class AnyObject(Frozen):
    """A JSON object of somebody else's making."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Any]
