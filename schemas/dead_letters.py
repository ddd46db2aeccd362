"""Dead letters as people see them: an item of the list, a group, and which of them are meant."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from schemas.base import Frozen

UNESCAPED_PLUS: Final = re.compile(r"(T\S+) (\d\d:?\d\d)$")
"""An offset whose `+` a query string has turned into a space."""


def _moment(value: object) -> object:
    """Read ISO 8601; a time without an offset is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(UNESCAPED_PLUS.sub(r"\1+\2", value.strip()))
        except ValueError:
            raise ValueError("must be a date or a time as ISO 8601 writes it, e.g. 2026-11-01T12:00:00Z") from None
    if not isinstance(value, datetime):
        raise ValueError("must be a date or a time as ISO 8601 writes it, e.g. 2026-11-01T12:00:00Z")  # noqa: TRY004 - pydantic's
    return value.replace(tzinfo=value.tzinfo or UTC)


def _per_second(value: object) -> object:
    return value.strip().removesuffix("/s") if isinstance(value, str) else value


def _several(value: object) -> object:
    found = tuple(value.replace(",", " ").split()) if isinstance(value, str) else value
    if not found:
        raise ValueError("names no letter; leave it out to mean all")
    return found


Timestamp = Annotated[datetime, BeforeValidator(_moment)]
Rate = Annotated[float, BeforeValidator(_per_second), Field(gt=0, allow_inf_nan=False)]


class DeadLetter(Frozen):
    """One item: what a task failed with. A task's letters with the same code are one item.

    `queue` is the routing key it goes back to, `host` the first file's (`data` for inline content).
    """

    id: UUID
    task_id: UUID | None = None
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
    """Dead letters that failed alike: how many, and when the first and the last of them did."""

    code: str
    stage: str | None
    host: str | None
    count: int
    first_seen: datetime | None
    last_seen: datetime | None


class InvalidFilterError(ValueError):
    """A filter cannot be read; the message names it and its problem."""


class DeadLetterFilter(Frozen):
    """Which dead letters are meant; nothing given means all. An unknown name is refused: it would mean all, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: Annotated[tuple[UUID, ...], BeforeValidator(_several)] = ()
    code: str | None = None
    stage: str | None = None
    host: str | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None
    generation: str | None = None
    user: str | None = None
    task: UUID | None = None
    limit: int | None = Field(default=None, ge=1)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read filters as people give them; raise InvalidFilterError."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidFilterError(_problems(cls, error)) from None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant; `limit` is the caller's business, since it depends on the others."""
        asked: tuple[tuple[Any, Any], ...] = (
            (self.code, letter.code),
            (self.stage, letter.stage or ""),
            (self.host, letter.host or ""),
            (self.generation, letter.generation_id),
            (self.user, letter.user_id),
            (self.task, letter.task_id),
        )
        if any(wanted is not None and wanted != found for wanted, found in asked):
            return False
        return (not self.ids or letter.id in self.ids) and self._in_time(letter.failed_at)

    def _in_time(self, failed_at: datetime | None) -> bool:
        if self.since is None and self.until is None:
            return True
        if failed_at is None:
            return False
        return (self.since is None or failed_at >= self.since) and (self.until is None or failed_at <= self.until)


class BatchRequest(DeadLetterFilter):
    """What is to be done with the letters chosen: at most `rate` a second; only counted when `dry_run`."""

    rate: Rate | None = None
    dry_run: bool = False


class KeptDeadLetter(Frozen):
    """A letter that stays where it is, and why."""

    id: UUID
    reason: str


class BatchOutcome(Frozen):
    """What became of the letters matched. Those neither `done` nor `kept` were gone already, or left when aborted."""

    matched: int
    done: int = 0
    kept: tuple[KeptDeadLetter, ...] = ()
    aborted: bool = False


def _problems(kind: type[DeadLetterFilter], error: ValidationError) -> str:
    """Say which filters cannot be read, and why; what was given is not repeated."""
    found = []
    for one in error.errors(include_url=False, include_input=False):
        name = str(one["loc"][0]) if one["loc"] else "filters"
        unknown = f"is not known; there are {', '.join(kind.model_fields)}"
        found.append(f"{name}: {unknown if one['type'] == 'extra_forbidden' else one['msg']}")
    return "; ".join(dict.fromkeys(found)).replace("Value error, ", "")
