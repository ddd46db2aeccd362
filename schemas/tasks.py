"""The life of a task: what the database answers when a worker begins, renews and finishes it."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, computed_field

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
    the job's FAL request id (yet). `stored` counts those of the task's `total` files that are stored, also those that
    this job does not ask for. `sees_storage`: the database sees for itself what Storage has, and whether it is whole.
    """

    state: Literal["run", "done", "cancelled", "busy", "no_generation"]
    generation_id: str | None = None
    user_id: str | None = None
    files: list[ProcessedFile] = Field(default_factory=list)
    total: int = 0
    stored: int = 0
    retry_after: float = 0.0
    sees_storage: bool = False


class FinishReply(Frozen):
    """Answer of `outlast_finish`; anything but `recorded` means that nothing was written.

    `status` is the task's, judged from all of its files, also those of earlier attempts.
    """

    state: Literal["recorded", "cancelled", "lost", "object_deleting", "object_differs"]
    status: TaskStatus | None = None


class HeartbeatReply(Frozen):
    """Answer of `outlast_heartbeat`: leases that are no longer ours, and tasks somebody cancelled."""

    lost: list[str] = Field(default_factory=list)
    cancelled: list[str] = Field(default_factory=list)


class Progress(Frozen):
    """How far a running task is, in files. `downloaded` and `size` are bytes of the files in work; size where known."""

    completed: int = 0
    failed: int = 0
    total: int = 0
    downloaded: int = 0
    size: int | None = None


class TaskResult(Frozen):
    """What a task that has ended came to. `processing_time` is in seconds, from its first attempt to its end."""

    successful_files: int
    total_files: int
    processing_time: float
    processed_file_ids: list[UUID] = Field(default_factory=list)
    failed_files: list[dict[str, Any]] = Field(default_factory=list)


class TaskState(Frozen):
    """A task as its user sees it. `attempt` counts from 1; `error` and `error_code` tell what failed first."""

    task_id: UUID
    status: TaskStatus
    generation_id: str | None = None
    user_id: str | None = None
    queue: str | None = None
    attempt: int = 0
    progress: Progress | None = None
    result: TaskResult | None = None
    error: str | None = None
    error_code: str | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented form
    @property
    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.status.ready

    @computed_field  # type: ignore[prop-decorator]
    @property
    def successful(self) -> bool:
        """Whether every file is stored."""
        return self.status is TaskStatus.COMPLETED


class SubmitReply(Frozen):
    """Answer of `outlast_submit`. `again`: the idempotency key is known; `conflict`: it stands for another request."""

    state: Literal["submitted", "again", "conflict"]
    task_id: UUID
    status: TaskStatus | None = None


class WorkerStats(Frozen):
    """Workers by name, with what their last heartbeat told, and the tasks each of them runs."""

    workers: dict[str, dict[str, Any]]
    active_tasks: dict[str, list[dict[str, Any]]]
