"""Data of the periodic jobs: what a sweep finds, and the messages of the maintenance queue."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from schemas.base import Frozen
from schemas.jobs import DEFAULT_BINDING

MAINTENANCE_PREFIX: Final = "outlast.maintenance."
MAINTENANCE_TYPE: Final = f"{MAINTENANCE_PREFIX}v1"

Action = Literal["remove_orphans", "expire", "optimize"]
"""Remove unreferenced objects; remove expired rows; compress images again that were stored with another profile."""


class Maintenance(Frozen):
    """The body of a maintenance message (`type=outlast.maintenance.v1`). `slot` is the time it was scheduled for."""

    action: Action
    slot: datetime


def _time_or_none(value: object, parse: ValidatorFunctionWrapHandler) -> datetime | None:
    """Return None for a time that Python cannot represent: users can write any time into their rows."""
    try:
        parsed: datetime | None = parse(value)
    except ValidationError:
        return None
    return parsed if parsed is None or parsed.tzinfo else parsed.replace(tzinfo=UTC)


class ReconcileEntry(Frozen):
    """One entry of `outlast_missing_page`. `task_id` is set for reason `idle` only.

    `output_json` is the output as JSON text. It is null if there is no row, if the output has too many bytes (then
    `output_bytes` is set), and with `same_output`, which means the output of the entry before this one. `past`: the
    idle task is one of `outlast adopt`.
    """

    binding: str = DEFAULT_BINDING
    generation_id: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    output_json: str | None = None
    output_bytes: int | None = None
    same_output: bool = False
    past: bool = False
    created_at: Annotated[datetime | None, WrapValidator(_time_or_none)] = None
    reason: Literal["no_task", "incomplete", "idle"]
    task_id: UUID | None = None


class ReconcilePage(Frozen):
    """The answer of `outlast_missing_page`. `next` is what the next call passes as `p_after`; null on the last page."""

    entries: list[ReconcileEntry]
    next: dict[str, Any] | None = None
