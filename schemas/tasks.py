"""The states of a task, and the answers of the SQL functions that change them."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, computed_field

from schemas.base import Frozen
from schemas.files import ProcessedFile
from schemas.jobs import DEFAULT_BINDING


class TaskStatus(StrEnum):
    """The states of a task. The last four are final ("ready")."""

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
    """The answer of `outlast_begin`: whether to run the task, and the files that are stored already.

    `busy`: another worker's lease is valid for `retry_after` more seconds. `no_generation`: no row has the job's FAL
    request id yet, or several rows have it (`shared`). `stored` of the task's `total` files are stored, including files
    that this job does not contain. `known` are files of the user's other generations, from the same URLs as files of
    this job; with the `md5` of each, `outlast_finish` checks its object again. `sees_storage`: the database can check
    in SQL whether Storage has an object and whether it is complete. `bucket`, `folders` and `variants` are those of the
    binding, if it names any.
    `recorded`: all files of the job are `known`, so the task is completed with `files`; `status` and `row_rejected` are
    those of FinishReply.
    `row_rejected`: the generation's row refuses FAL's result; `error` says why.
    """

    state: Literal["run", "done", "recorded", "cancelled", "busy", "no_generation", "row_rejected"]
    binding: str | None = None
    generation_id: str | None = None
    user_id: str | None = None
    files: list[ProcessedFile] = Field(default_factory=list)
    known: list[ProcessedFile] = Field(default_factory=list)
    total: int = 0
    stored: int = 0
    retry_after: float = 0.0
    shared: bool = False
    sees_storage: bool = False
    bucket: str | None = None
    folders: list[str | None] | None = None
    variants: str | None = None
    error: str | None = None
    status: TaskStatus | None = None
    row_rejected: str | None = None


class FinishReply(Frozen):
    """The answer of `outlast_finish`. Nothing was written unless `state` is `recorded`.

    `status` is the status of the task, computed from all of its files, including those of earlier attempts.
    `row_rejected` is the reason if the generation's row, or a user's trigger on it, refused the update of `media`. The
    files and the task are recorded; the sweep tries to write the row again.
    """

    state: Literal["recorded", "cancelled", "lost", "object_deleting", "object_differs"]
    status: TaskStatus | None = None
    row_rejected: str | None = None


class HeartbeatReply(Frozen):
    """The answer of `outlast_heartbeat`: ids of lost leases, ids of cancelled tasks, names of paused queues.

    `paused` is None if the database has an earlier version.
    """

    lost: list[str] = Field(default_factory=list)
    cancelled: list[str] = Field(default_factory=list)
    paused: list[str] | None = None


class Progress(Frozen):
    """The progress of a running task, in files. `downloaded` of `size` bytes of the files in process were received.

    `size` is null while it is unknown.
    """

    completed: int = 0
    failed: int = 0
    total: int = 0
    downloaded: int = 0
    size: int | None = None


class TaskResult(Frozen):
    """The result of an ended task. `processing_time` is in seconds, from the first attempt to the end."""

    successful_files: int
    total_files: int
    processing_time: float
    processed_file_ids: list[UUID] = Field(default_factory=list)
    failed_files: list[dict[str, Any]] = Field(default_factory=list)


class TaskState(Frozen):
    """The state of a task in the task API. `attempt` counts from 1; the error is that of the first failure."""

    task_id: UUID
    status: TaskStatus
    binding: str = DEFAULT_BINDING
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
        """Whether all files are stored."""
        return self.status is TaskStatus.COMPLETED

    @property
    def is_cancel_marker(self) -> bool:
        """Whether only the id is known, because the task was cancelled before its job was recorded."""
        return self.status is TaskStatus.CANCELLED and self.generation_id is None and self.started_at is None


class SubmitReply(Frozen):
    """The answer of `outlast_submit`.

    `again`: the same request was submitted before with this idempotency key. `conflict`: another request was.
    """

    state: Literal["submitted", "again", "conflict"]
    task_id: UUID
    status: TaskStatus | None = None


class WorkerStats(Frozen):
    """The workers with a recent heartbeat, by name: their last heartbeat's statistics, and the tasks that they run."""

    workers: dict[str, dict[str, Any]]
    active_tasks: dict[str, list[dict[str, Any]]]
