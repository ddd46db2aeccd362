"""The records of a trial: its options, what was sent, why it stopped, and the state in the database."""

from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Frozen
from schemas.jobs import DEFAULT_BINDING
from schemas.tasks import TaskStatus

Via = Literal["auto", "row", "webhook"]
"""`row`: insert a row; `webhook`: sign a webhook and send it to the receiver; `auto`: a row if the table accepts it."""


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """How the test generation is sent. `values` are values of the row by column. `seconds` limits each wait."""

    via: Via = "auto"
    values: dict[str, Any] = field(default_factory=dict)
    receiver_url: str | None = None
    seconds: float = 60.0
    binding: str = DEFAULT_BINDING


class StoppedError(Exception):
    """The trial stopped at `step`."""

    def __init__(self, step: str, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.step = step
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class SentGeneration:
    """The test generation. `has_row`: it is a row of the table. `awaits_sweep`: no webhook is sent for it."""

    generation_id: str
    has_row: bool
    awaits_sweep: bool = False
    binding: str = DEFAULT_BINDING

    @property
    def has_webhook(self) -> bool:
        """Whether the database sends its webhook."""
        return self.has_row and not self.awaits_sweep

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments by which the SQL functions find it."""
        return {"p_generation_id": self.generation_id, "p_binding": self.binding}


class TrialTask(Frozen):
    """A task of the test generation."""

    task_id: UUID
    status: TaskStatus
    error: str | None = None
    error_code: str | None = None


class TrialFile(Frozen):
    """A stored file of the test generation."""

    bucket: str
    path: str
    sha256: str
    file_size: int


class WebhookResponse(Frozen):
    """What pg_net got for one of the last webhooks of the database: a status, or why there was none."""

    status_code: int | None = None
    error: str | None = None


class TrialState(Frozen):
    """The answer of `outlast_try_state`. `has_media_status`: the binding names a column for the status."""

    tasks: list[TrialTask] = Field(default_factory=list)
    files: list[TrialFile] = Field(default_factory=list)
    media_status: str | None = None
    has_media_status: bool = True
    responses: list[WebhookResponse] = Field(default_factory=list)
