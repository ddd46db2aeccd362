"""A webhook to pass on, as a message: the unchanged body, and in headers its id, FAL's signature and the query."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Self
from uuid import uuid5

from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from handlers.sources.fal import HEADERS
from schemas.jobs import NAMESPACE
from worker.broker.envelope import PREFIX, UndecodableError, build_message, failure_headers

FORWARD_PREFIX: Final = "outlast.forward."
FORWARD_TYPE: Final = f"{FORWARD_PREFIX}v1"
MAX_QUERY_CHARACTERS: Final = 2048


@dataclass(frozen=True, slots=True)
class ForwardedWebhook:
    """A webhook of FAL. `id` is the same for each delivery of one body; `headers` are FAL's, with its signature."""

    id: str
    body: bytes
    query: str
    headers: Mapping[str, str]
    attempt: int = 1
    first_seen: str = ""

    @classmethod
    def received(cls, body: bytes, query: str, headers: Mapping[str, str]) -> Self:
        """Return the webhook of a verified request."""
        return cls(
            id=f"msg_{uuid5(NAMESPACE, body.decode(errors='replace')).hex}",
            body=body,
            query=query[:MAX_QUERY_CHARACTERS],
            headers={name: headers[name] for name in HEADERS if name in headers},
            first_seen=datetime.now(UTC).isoformat(),
        )

    @classmethod
    def read(cls, message: AbstractIncomingMessage) -> Self:
        """Decode a message. Raises UndecodableError."""
        if message.type != FORWARD_TYPE:
            raise UndecodableError(f"message type {message.type!r} is not {FORWARD_TYPE!r}", "newer_version")
        attempt = message.headers.get(f"{PREFIX}attempt")
        return cls(
            id=message.message_id or "",
            body=message.body,
            query=_text(message.headers.get(f"{PREFIX}query")),
            headers={name: text for name in HEADERS if (text := _text(message.headers.get(_header(name))))},
            attempt=attempt if isinstance(attempt, int) and attempt > 0 else 1,
            first_seen=_text(message.headers.get(f"{PREFIX}first-seen")),
        )

    def next_attempt(self) -> Self:
        """Return the webhook for the next attempt."""
        return replace(self, attempt=self.attempt + 1)

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of the log line."""
        return {"webhook_id": self.id, "attempt": self.attempt}

    def message(self, code: str | None = None, error: str | None = None) -> Message:
        """Return a persistent message; `code` and `error` describe the failure of the previous attempt."""
        headers: dict[str, Any] = {
            f"{PREFIX}attempt": self.attempt,
            f"{PREFIX}first-seen": self.first_seen,
            f"{PREFIX}query": self.query,
            **{_header(name): text for name, text in self.headers.items()},
        }
        return build_message(self.body, self.id, headers | failure_headers(code, error, "forward"), FORWARD_TYPE)


def _header(name: str) -> str:
    return f"{PREFIX}{name.lower()}"


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
