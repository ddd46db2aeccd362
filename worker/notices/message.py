"""A notice as a message: what happened, for one address. The message names the address only by a hash of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Self
from uuid import uuid5

from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from pydantic import ValidationError

from schemas.base import Frozen
from schemas.jobs import NAMESPACE
from worker.broker.envelope import PREFIX, UndecodableError, build_message, failure_headers
from worker.notices.types import NoticeType

NOTICE_PREFIX: Final = "outlast.notice."
NOTICE_TYPE: Final = f"{NOTICE_PREFIX}v1"


class Notice(Frozen):
    """The body of a notice, in the form of Standard Webhooks."""

    type: NoticeType
    timestamp: datetime
    data: dict[str, Any]


def target_of(url: str) -> str:
    """Return the hash that stands for an address in messages, because addresses of Slack are secrets."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class NoticeMessage:
    """One notice for one address. `id` is the same for each delivery of the same notice."""

    id: str
    notice: Notice
    target: str
    attempt: int = 1
    first_seen: str = ""

    @classmethod
    def of(cls, notice: Notice, subject: str, url: str) -> Self:
        """Return the message for an address. `subject` identifies what the notice is about."""
        name = f"msg_{uuid5(NAMESPACE, f'{notice.type} {subject}').hex}"
        return cls(name, notice, target_of(url), first_seen=datetime.now(UTC).isoformat())

    @classmethod
    def read(cls, message: AbstractIncomingMessage) -> Self:
        """Decode a message. Raises UndecodableError."""
        if message.type != NOTICE_TYPE:
            raise UndecodableError(f"message type {message.type!r} is not {NOTICE_TYPE!r}", "newer_version")
        try:
            notice = Notice.model_validate_json(message.body)
        except ValidationError as error:
            fields = sorted({".".join(map(str, problem["loc"])) or "body" for problem in error.errors()})
            raise UndecodableError(f"the body is not a notice; invalid: {', '.join(fields)}", "undecodable") from None
        headers: Mapping[str, Any] = message.headers
        attempt = headers.get(f"{PREFIX}attempt")
        return cls(
            id=(message.message_id or "").partition(":")[0],
            notice=notice,
            target=str(headers.get(f"{PREFIX}target", "")),
            attempt=attempt if isinstance(attempt, int) and attempt > 0 else 1,
            first_seen=str(headers.get(f"{PREFIX}first-seen", "")),
        )

    def next_attempt(self) -> Self:
        """Return the notice for the next attempt."""
        return replace(self, attempt=self.attempt + 1)

    def message(self, code: str | None = None, error: str | None = None) -> Message:
        """Return a persistent message; `code` and `error` describe the failure of the previous attempt."""
        headers: dict[str, Any] = {
            f"{PREFIX}attempt": self.attempt,
            f"{PREFIX}first-seen": self.first_seen,
            f"{PREFIX}target": self.target,
        }
        body = self.notice.model_dump_json().encode()
        name = f"{self.id}:{self.target}"
        return build_message(body, name, headers | failure_headers(code, error, "notify"), NOTICE_TYPE)

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of the log line."""
        return {"notice_id": self.id, "notice": self.notice.type, "attempt": self.attempt}
