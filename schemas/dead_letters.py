"""Dead letters: an item of the list, a group, the filters, and the result of a batch operation."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from schemas.base import Frozen, problem_text
from schemas.moments import Timestamp


def _without_unit(value: object) -> object:
    return value.strip().removesuffix("/s") if isinstance(value, str) else value


def _split_ids(value: object) -> object:
    ids = tuple(value.replace(",", " ").split()) if isinstance(value, str) else value
    if not ids:
        raise ValueError("is empty; leave it out to select all dead letters")
    return ids


Rate = Annotated[float, BeforeValidator(_without_unit), Field(gt=0, allow_inf_nan=False)]


class DeadLetter(Frozen):
    """One dead letter. A task's dead-lettered messages with the same error code are one dead letter.

    `queue` is the routing key for a replay. `host` is the host of the first file, or `data` for a `data:` URI. `host`
    is None if there is no valid URL, or if the failure is one of Storage, the database or the worker's disk.
    """

    id: UUID
    task_id: UUID | None = None
    binding: str | None = None
    generation_id: str | None = None
    user_id: str | None = None
    queue: str | None = None
    code: str
    error: str | None = None
    stage: str | None = None
    host: str | None = None
    failed_at: datetime | None = None
    first_seen: datetime | None = None
    attempts: int | None = None
    replays: int = 0


class DeadLetterGroup(Frozen):
    """The dead letters with the same code, stage and host. `first_seen` and `last_seen` are times of failures."""

    code: str
    stage: str | None
    host: str | None
    count: int
    first_seen: datetime | None
    last_seen: datetime | None


class InvalidFilterError(ValueError):
    """A filter is invalid. The message names the filter and the problem."""


class DeadLetterFilter(Frozen):
    """Filters for dead letters. Without filters, all are selected.

    An unknown filter is an error: if a misspelt filter were ignored, all dead letters would be selected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: Annotated[tuple[UUID, ...], BeforeValidator(_split_ids)] = ()
    code: str | None = None
    stage: str | None = None
    host: str | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None
    binding: str | None = None
    generation: str | None = None
    user: str | None = None
    task: UUID | None = None
    limit: int | None = Field(default=None, ge=1)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Parse filters from a mapping of names to values; raise InvalidFilterError."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidFilterError(_problems(cls, error)) from None

    def matches(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter is selected. The caller applies `limit`."""
        criteria: tuple[tuple[Any, Any], ...] = (
            (self.code, letter.code),
            (self.stage, letter.stage or ""),
            (self.host, letter.host or ""),
            (self.binding, letter.binding),
            (self.generation, letter.generation_id),
            (self.user, letter.user_id),
            (self.task, letter.task_id),
        )
        if any(wanted is not None and wanted != actual for wanted, actual in criteria):
            return False
        return (not self.ids or letter.id in self.ids) and self._is_in_period(letter.failed_at)

    def _is_in_period(self, failed_at: datetime | None) -> bool:
        if self.since is None and self.until is None:
            return True
        if failed_at is None:
            return False
        return (self.since is None or failed_at >= self.since) and (self.until is None or failed_at <= self.until)


class BatchRequest(DeadLetterFilter):
    """A batch operation on the selected dead letters: at most `rate` a second; with `dry_run` they are only counted."""

    rate: Rate | None = None
    dry_run: bool = False


class KeptDeadLetter(Frozen):
    """A dead letter that a batch operation left in the queue, and the reason."""

    id: UUID
    reason: str


class BatchOutcome(Frozen):
    """The result of a batch operation.

    A matched dead letter that is neither `done` nor `kept` no longer existed, or the operation was aborted before it.
    """

    matched: int
    done: int = 0
    kept: tuple[KeptDeadLetter, ...] = ()
    aborted: bool = False


def _problems(kind: type[DeadLetterFilter], error: ValidationError) -> str:
    """Return which filters are invalid and why, without their values."""
    texts = []
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0]) if problem["loc"] else "filters"
        unknown = f"is not a filter; the filters are {', '.join(kind.model_fields)}"
        texts.append(f"{name}: {unknown if problem['type'] == 'extra_forbidden' else problem_text(problem)}")
    return "; ".join(dict.fromkeys(texts))
