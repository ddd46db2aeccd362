"""The life of a task: what the database answers when a worker begins, renews and finishes it."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.base import Frozen
from schemas.files import ProcessedFile


class TaskStatus(StrEnum):
    """States of a task. The last four are final ("ready")."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ready(self) -> bool:
        """Whether the task has ended."""
        return self in {self.COMPLETED, self.PARTIAL, self.FAILED, self.CANCELLED}


class BeginReply(Frozen):
    """Answer of `outlast_begin`: whether to run, and what is stored already.

    `busy` means another worker's lease lives for `retry_after` more seconds; `no_generation` that no row carries
    the job's FAL request id (yet).
    """

    state: Literal["run", "done", "cancelled", "busy", "no_generation"]
    generation_id: str | None = None
    user_id: str | None = None
    files: list[ProcessedFile] = Field(default_factory=list)
    retry_after: float = 0.0


class FinishReply(Frozen):
    """Answer of `outlast_finish`; anything but `recorded` means that nothing was written.

    `status` is the task's, judged from all of its files, also those of earlier attempts.
    """

    state: Literal["recorded", "cancelled", "lost", "object_deleting"]
    status: TaskStatus | None = None


class HeartbeatReply(Frozen):
    """Answer of `outlast_heartbeat`: leases that are no longer ours, and tasks somebody cancelled."""

    lost: list[str] = Field(default_factory=list)
    cancelled: list[str] = Field(default_factory=list)
