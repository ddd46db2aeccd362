"""The results of the sweep: completed generations without media, and stalled tasks."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from schemas.base import Frozen


class ReconcileEntry(Frozen):
    """One entry of `outlast_missing`. `task_id` is set for reason `idle` only; `output` is null without a row."""

    generation_id: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    output: Any = None
    created_at: datetime | None = None
    reason: Literal["no_task", "incomplete", "idle"]
    task_id: UUID | None = None
