"""A message in `outlast.dead`, read: what it says about itself, and what tells it from every other one."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid5

from aio_pika.abc import AbstractIncomingMessage
from yarl import URL

from schemas.dead_letters import DeadLetter, DeadLetterGroup
from schemas.jobs import NAMESPACE
from schemas.urls import is_data_uri
from worker.broker.envelope import PREFIX, Envelope, UndecodableError
from worker.broker.topology import DELIVERY_LIMIT

Key = tuple[UUID, datetime | None, int]
"""(id, failed_at, replays): a job that fails again comes back with another one."""

SECRETIVE: Final = re.compile(r"(?P<scheme>\w+://)(?:[^\s/@'\"]*@)?(?P<rest>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?")
EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeadLetterMessage:
    """A summary without the body: the item, and the source keys of its files."""

    item: DeadLetter
    source_keys: frozenset[str]

    @property
    def key(self) -> Key:
        """What tells this letter from a later one about the same failure."""
        return self.item.id, self.item.failed_at, self.item.replays


def read(message: AbstractIncomingMessage) -> DeadLetterMessage:
    """Summarise a message; never fails, since whatever lies among the dead letters must be shown."""
    headers = message.headers
    told = _by_broker(headers) or _by_us(headers)
    replays = _whole(headers, "replays") or 0
    try:
        job = Envelope.read(message).job
    except UndecodableError:
        digest = hashlib.sha256(message.body).hexdigest()
        first_seen = moment(headers.get(f"{PREFIX}first-seen"))
        name = uuid5(NAMESPACE, f"dead\n{digest}")
        item = DeadLetter(id=name, queue=message.routing_key, first_seen=first_seen, replays=replays, **told)
        return DeadLetterMessage(item, frozenset())
    item = DeadLetter(
        id=uuid5(NAMESPACE, f"dead\n{job.task_id}\n{told['code']}"),
        task_id=job.task_id,
        generation_id=job.generation_id,
        user_id=job.user_id,
        queue=message.routing_key,
        host=host_of(job.files[0].url) if job.files else None,
        first_seen=moment(headers.get(f"{PREFIX}first-seen")) or _aware(job.event_at),
        replays=replays,
        **told,
    )
    return DeadLetterMessage(item, frozenset(file.source_key for file in job.files))


def united(letters: Iterable[DeadLetterMessage]) -> list[DeadLetter]:
    """Return one item for each id, the oldest failure first; where there are several letters the latest speaks."""
    found: dict[UUID, DeadLetter] = {}
    for item in (letter.item for letter in letters):
        other = found.get(item.id)
        found[item.id] = item if other is None else _merged(other, item)
    return sorted(found.values(), key=lambda item: (item.failed_at or EARLIEST, item.id))


def grouped(items: Iterable[DeadLetter]) -> list[DeadLetterGroup]:
    """Count by (code, stage, host), the largest group first."""
    found: dict[tuple[str, str | None, str | None], list[datetime | None]] = {}
    for item in items:
        found.setdefault((item.code, item.stage, item.host), []).append(item.failed_at)
    groups = [
        DeadLetterGroup(
            code=code,
            stage=stage,
            host=host,
            count=len(times),
            first_seen=min(filter(None, times), default=None),
            last_seen=max(filter(None, times), default=None),
        )
        for (code, stage, host), times in found.items()
    ]
    return sorted(groups, key=lambda group: (-group.count, group.code, group.stage or "", group.host or ""))


def host_of(url: str) -> str | None:
    """Return a URL's host; `data` for content that stands in the URL itself."""
    if is_data_uri(url):
        return "data"
    try:
        return URL(url).host
    except ValueError:
        return None


def scrubbed(text: str) -> str:
    """Return a text with the queries, fragments and user names of its URLs removed."""
    return SECRETIVE.sub(r"\g<scheme>\g<rest>", text)


def _merged(one: DeadLetter, other: DeadLetter) -> DeadLetter:
    later = max(one, other, key=lambda item: (item.failed_at or EARLIEST, item.replays))
    return later.model_copy(
        update={
            "first_seen": min(filter(None, (one.first_seen, other.first_seen)), default=None),
            "attempts": max(one.attempts or 0, other.attempts or 0) or None,
            "replays": max(one.replays, other.replays),
        }
    )


def _by_us(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Read the reason a worker wrote down."""
    error = _text(headers.get(f"{PREFIX}error"))
    return {
        "code": _text(headers.get(f"{PREFIX}error-code")) or "unknown",
        "error": None if error is None else scrubbed(error),
        "stage": _text(headers.get(f"{PREFIX}stage")) or None,
        "failed_at": moment(headers.get(f"{PREFIX}failed-at")),
        "attempts": _whole(headers, "attempt"),
    }


def _by_broker(headers: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the reason the broker had. We never bury a message with `x-death`, so where there is one, it was the broker.

    Such a message may carry our headers too, about an earlier attempt: they do not count.
    """
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else None
    if death is None:
        return None
    reason, attempts = _text(death.get("reason")) or "unknown", _whole(headers, "attempt")
    told = {"stage": "job", "failed_at": moment(death.get("time")), "attempts": attempts}
    if reason != "delivery_limit":
        return told | {"code": f"broker_{reason}", "error": f"RabbitMQ gave the message up: {reason}"}
    times = DELIVERY_LIMIT + 1 + (_whole(headers, "deaths") or 0)
    error = (
        f"delivered {times} times, and each time the worker ended before it answered: look at the workers' logs for "
        "crashes or missing memory"
    )
    return told | {"code": "worker_killed", "error": error, "attempts": max(times, attempts or 0)}


def moment(value: object) -> datetime | None:
    """Read a time from a header: ISO 8601 text, or a timestamp of the broker's."""
    if isinstance(value, datetime):
        return _aware(value)
    try:
        return _aware(datetime.fromisoformat(str(value)))
    except ValueError:
        return None


def _aware(value: datetime) -> datetime:
    return value.replace(tzinfo=value.tzinfo or UTC)


def _whole(headers: Mapping[str, Any], name: str) -> int | None:
    value = headers.get(f"{PREFIX}{name}")
    return value if isinstance(value, int) and value >= 0 else None


def _text(value: object) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else None
