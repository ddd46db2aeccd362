"""A job as a message: body, properties and `x-outlast-*` headers. RabbitMQ's `x-death` is neither read nor copied."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage
from pydantic import TypeAdapter, ValidationError

from handlers.json_text import clean_text
from schemas.jobs import JOB_TYPE, MAX_JOB_BYTES, Job
from worker.observability import tracing

PREFIX: Final = "x-outlast-"
MAX_ERROR_HEADER_CHARACTERS: Final = 1000
JOB_TO_JSON: Final = TypeAdapter(Job).dump_json
"""Like `model_dump_json`, but returns bytes."""


class UndecodableError(ValueError):
    """The message is not a job that this version can decode; `code` is `undecodable` or `newer_version`."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Envelope:
    """A job and its history.

    `attempt` counts from 1; it is Outlast's count, not the broker's. `deaths` is the number of deliveries of this
    attempt that ended without ack, as RabbitMQ counts them (`x-delivery-count`). It includes those of earlier messages
    of the attempt, because RabbitMQ's count is for one message only. `traceparent` is that of the first publication,
    `links` name the span of the previous attempt (see `tracing.py`).
    """

    job: Job
    attempt: int = 1
    deaths: int = 0
    replays: int = 0
    first_seen: datetime = field(default_factory=lambda: datetime.now(UTC))
    traceparent: str | None = None
    links: tuple[str, ...] = ()

    @classmethod
    def read(cls, message: AbstractIncomingMessage) -> Self:
        """Decode a message. Raises UndecodableError."""
        if message.type is not None and message.type != JOB_TYPE:
            raise UndecodableError(f"message type {message.type!r} is not {JOB_TYPE!r}", "newer_version")
        try:
            job = Job.model_validate_json(message.body)
        except ValidationError as error:
            fields = sorted({".".join(map(str, problem["loc"])) or "body" for problem in error.errors()})
            raise UndecodableError(f"the body is not a job; invalid: {', '.join(fields)}", "undecodable") from None
        headers = message.headers
        return cls(
            job=job,
            attempt=_integer_header(headers, "attempt", 1),
            deaths=_integer_header(headers, "deaths", 0) + _previous_deliveries(headers),
            replays=_integer_header(headers, "replays", 0),
            first_seen=_first_seen(headers) or job.event_at,
            traceparent=_to_text(headers.get("traceparent")),
            links=tuple((_to_text(headers.get(f"{PREFIX}links")) or "").split()),
        )

    def next_attempt(self, job: Job, *, counted: bool = True) -> Self:
        """Return an envelope with `job`, the pending files. `counted`: with the next attempt number, and no deaths."""
        if counted:
            return replace(self, job=job, attempt=self.attempt + 1, deaths=0)
        return replace(self, job=job)

    def with_traceparent(self) -> Self:
        """Return the envelope with the current trace, unless it has a trace already."""
        current = tracing.current_traceparent() if self.traceparent is None else None
        return self if current is None else replace(self, traceparent=current)

    def message(self, *, code: str | None = None, error: str | None = None, stage: str = "") -> Message:
        """Return a persistent message; `code`, `error` and `stage` describe the failure of the previous attempt.

        Raises:
            ValueError: the job is larger than MAX_JOB_BYTES.
        """
        body = JOB_TO_JSON(self.job)
        if len(body) > MAX_JOB_BYTES:
            raise ValueError(f"the job has {len(body)} bytes; a message has at most {MAX_JOB_BYTES}")
        return build_message(body, str(self.job.task_id), self._headers() | failure_headers(code, error, stage))

    def _headers(self) -> dict[str, Any]:
        headers: dict[str, Any] = {
            f"{PREFIX}attempt": self.attempt,
            f"{PREFIX}deaths": self.deaths,
            f"{PREFIX}replays": self.replays,
            f"{PREFIX}first-seen": self.first_seen.isoformat(),
        }
        if self.traceparent is not None:
            headers["traceparent"] = self.traceparent
        if self.links:
            headers[f"{PREFIX}links"] = " ".join(self.links)
        return headers


def failure_headers(code: str | None, error: str | None, stage: str = "") -> dict[str, Any]:
    """Return the headers that say why a message is retried or a dead letter, and in which stage it failed."""
    if code is None:
        return {}
    return {
        f"{PREFIX}error-code": code,
        f"{PREFIX}error": clean_text((error or "")[:MAX_ERROR_HEADER_CHARACTERS]),
        f"{PREFIX}stage": stage,
        f"{PREFIX}failed-at": datetime.now(UTC).isoformat(),
    }


def build_message(
    body: bytes, message_id: str | None, headers: Mapping[str, Any], message_type: str | None = JOB_TYPE
) -> Message:
    """Return a persistent message with these headers."""
    return Message(
        body,
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=message_id,
        type=message_type,
        timestamp=datetime.now(UTC),
        headers=dict(headers),
    )


def _integer_header(headers: Mapping[str, Any], name: str, default: int) -> int:
    value = headers.get(f"{PREFIX}{name}")
    return value if isinstance(value, int) and value >= 0 else default


def _previous_deliveries(headers: Mapping[str, Any]) -> int:
    """Return how often this message was delivered before, as RabbitMQ counts (`x-delivery-count`)."""
    count = headers.get("x-delivery-count")
    return count if isinstance(count, int) and count > 0 else 0


def _first_seen(headers: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(str(headers.get(f"{PREFIX}first-seen")))
    except ValueError:
        return None


def _to_text(value: object) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else None
