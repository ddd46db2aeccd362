"""Data of the periodic jobs: what a sweep finds, and the messages of the maintenance queue."""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from schemas.base import Frozen

MAINTENANCE_PREFIX: Final = "outlast.maintenance."
MAINTENANCE_TYPE: Final = f"{MAINTENANCE_PREFIX}v1"

Action = Literal["remove_orphans", "expire", "optimize"]
"""Remove unreferenced objects; remove expired rows; compress images again that have another profile."""


class Maintenance(Frozen):
    """The body of a maintenance message (`type=outlast.maintenance.v1`). `slot` is the time it was scheduled for."""

    action: Action
    slot: datetime


class ReconcileEntry(Frozen):
    """One entry of `outlast_missing`. `task_id` is set for reason `idle` only; `output` is null without a row."""

    generation_id: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    output: Any = None
    created_at: datetime | None = None
    reason: Literal["no_task", "incomplete", "idle"]
    task_id: UUID | None = None
