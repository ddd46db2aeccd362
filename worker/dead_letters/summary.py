"""Summaries of the messages in `outlast.dead`: the error, the task, and a key that identifies each message."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid5

from aio_pika.abc import AbstractIncomingMessage

from schemas.dead_letters import DeadLetter, DeadLetterGroup
from schemas.jobs import NAMESPACE
from schemas.urls import is_data_uri, parse_url
from worker.broker.envelope import PREFIX, Envelope, UndecodableError
from worker.broker.topology import DELIVERY_LIMIT

Key = tuple[UUID, datetime | None, int]
"""(id, failed_at, replays). A job that fails again after a replay has another key."""

URL_PARTS: Final = re.compile(r"(?P<scheme>\w+://)(?:[^\s/@'\"]*@)?(?P<rest>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?")
NOT_AT_SOURCE: Final = ("storage_", "database_", "row_rejected", "disk_full", "generation_not_found")
"""Beginnings of the codes whose cause is not the server that the file comes from."""
EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeadLetterSummary:
    """A message without its body: the item, and the source keys of its files."""

    item: DeadLetter
    source_keys: frozenset[str]

    @property
    def key(self) -> Key:
        """The key, which differs from that of a later message with the same failure."""
        return self.item.id, self.item.failed_at, self.item.replays


def summarize(message: AbstractIncomingMessage) -> DeadLetterSummary:
    """Return the summary of a message. Never fails, so that every message can be listed."""
    headers = message.headers
    failure = _broker_failure(headers) or _worker_failure(headers)
    replays = _header_int(headers, "replays") or 0
    try:
        job = Envelope.read(message).job
    except UndecodableError:
        digest = hashlib.sha256(message.body).hexdigest()
        first_seen = parse_time(headers.get(f"{PREFIX}first-seen"))
        item_id = uuid5(NAMESPACE, f"dead\n{digest}")
        item = DeadLetter(id=item_id, queue=message.routing_key, first_seen=first_seen, replays=replays, **failure)
        return DeadLetterSummary(item, frozenset())
    item = DeadLetter(
        id=uuid5(NAMESPACE, f"dead\n{job.task_id}\n{failure['code']}"),
        task_id=job.task_id,
        binding=job.binding,
        generation_id=job.generation_id,
        user_id=job.user_id,
        queue=message.routing_key,
        host=host_of(job.files[0].url) if job.files and not failure["code"].startswith(NOT_AT_SOURCE) else None,
        first_seen=parse_time(headers.get(f"{PREFIX}first-seen")) or _with_timezone(job.event_at),
        replays=replays,
        **failure,
    )
    return DeadLetterSummary(item, frozenset(file.source_key for file in job.files))


def merge_items(summaries: Iterable[DeadLetterSummary]) -> list[DeadLetter]:
    """Return one item per id, oldest failure first. Of several messages with one id, the latest error counts."""
    merged: dict[UUID, DeadLetter] = {}
    for item in (summary.item for summary in summaries):
        other = merged.get(item.id)
        merged[item.id] = item if other is None else _merge(other, item)
    return sorted(merged.values(), key=lambda item: (item.failed_at or EARLIEST, item.id))


def group_items(items: Iterable[DeadLetter]) -> list[DeadLetterGroup]:
    """Count items by (code, stage, host), largest group first."""
    failures: dict[tuple[str, str | None, str | None], list[datetime | None]] = {}
    for item in items:
        failures.setdefault((item.code, item.stage, item.host), []).append(item.failed_at)
    groups = [
        DeadLetterGroup(
            code=code,
            stage=stage,
            host=host,
            count=len(times),
            first_seen=min(filter(None, times), default=None),
            last_seen=max(filter(None, times), default=None),
        )
        for (code, stage, host), times in failures.items()
    ]
    return sorted(groups, key=lambda group: (-group.count, group.code, group.stage or "", group.host or ""))


def host_of(url: str) -> str | None:
    """Return the host of a URL, or `data` for a data URI; None if the URL is invalid."""
    if is_data_uri(url):
        return "data"
    try:
        return parse_url(url).host
    except ValueError:
        return None


def redact_urls(text: str) -> str:
    """Return a text with queries, fragments and user names removed from the URLs in it."""
    return URL_PARTS.sub(r"\g<scheme>\g<rest>", text)


def _merge(first: DeadLetter, second: DeadLetter) -> DeadLetter:
    later = max(first, second, key=lambda item: (item.failed_at or EARLIEST, item.replays))
    return later.model_copy(
        update={
            "first_seen": min(filter(None, (first.first_seen, second.first_seen)), default=None),
            "attempts": max(first.attempts or 0, second.attempts or 0) or None,
            "replays": max(first.replays, second.replays),
        }
    )


def _worker_failure(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the failure that a worker recorded in the headers."""
    error = _text(headers.get(f"{PREFIX}error"))
    return {
        "code": _text(headers.get(f"{PREFIX}error-code")) or "unknown",
        "error": None if error is None else redact_urls(error),
        "stage": _text(headers.get(f"{PREFIX}stage")) or None,
        "failed_at": parse_time(headers.get(f"{PREFIX}failed-at")),
        "attempts": _header_int(headers, "attempt"),
    }


def _broker_failure(headers: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the failure if the broker dead-lettered the message: only then does it have the header `x-death`.

    Such a message may also have headers of a worker from an earlier attempt. They are ignored.
    """
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else None
    if death is None:
        return None
    reason, attempts = _text(death.get("reason")) or "unknown", _header_int(headers, "attempt")
    failure = {"stage": "job", "failed_at": parse_time(death.get("time")), "attempts": attempts}
    if reason != "delivery_limit":
        return failure | {"code": f"broker_{reason}", "error": f"RabbitMQ dead-lettered the message: {reason}"}
    times = DELIVERY_LIMIT + 1 + (_header_int(headers, "deaths") or 0)
    error = (
        f"delivered {times} times, and each time the worker ended before it acked the message: check the logs of the "
        "workers for crashes or lack of memory"
    )
    return failure | {"code": "worker_killed", "error": error, "attempts": max(times, attempts or 0)}


def parse_time(value: object) -> datetime | None:
    """Parse a time in a header: ISO 8601 text, or an AMQP timestamp; None if it is neither."""
    if isinstance(value, datetime):
        return _with_timezone(value)
    try:
        return _with_timezone(datetime.fromisoformat(str(value)))
    except ValueError:
        return None


def _with_timezone(value: datetime) -> datetime:
    return value.replace(tzinfo=value.tzinfo or UTC)


def _header_int(headers: Mapping[str, Any], name: str) -> int | None:
    value = headers.get(f"{PREFIX}{name}")
    return value if isinstance(value, int) and value >= 0 else None


def _text(value: object) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else None
