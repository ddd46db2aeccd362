"""Replay: publish the job of a dead letter to its queue again, with the attempt counter reset."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage

from schemas.jobs import Job, Queue
from worker.broker.envelope import PREFIX, Envelope, UndecodableError
from worker.dead_letters.batch import Preparation, UnackedDeadLetter
from worker.dead_letters.source_refresh import NotReplayableError, SourceRefresher
from worker.dead_letters.summary import DeadLetterSummary
from worker.observability import tracing
from worker.observability.metrics import Metrics

QUEUES: Final = frozenset(queue.value for queue in Queue)
OF_ATTEMPTS: Final = frozenset(
    f"{PREFIX}{name}" for name in ("attempt", "deaths", "replays", "error-code", "error", "stage", "failed-at")
)
"""Headers that describe earlier attempts. All others of ours belong to the message, such as a webhook's query."""


class Replay:
    """The action of a replay. Jobs whose source was gone are checked first, and get fresh URLs if possible."""

    group_size = 8

    def __init__(self, refresher: SourceRefresher, metrics: Metrics | None = None) -> None:
        self._refresher = refresher
        self._metrics = metrics

    async def prepare(self, group: Sequence[UnackedDeadLetter]) -> Sequence[Preparation]:
        """Build the messages to publish."""
        return await asyncio.gather(*(self._prepare(dead_letter) for dead_letter in group))

    def on_removed(self, _summary: DeadLetterSummary) -> None:
        """Count the replay."""
        if self._metrics is not None:
            self._metrics.dead_letters_replayed.inc()

    async def _prepare(self, dead_letter: UnackedDeadLetter) -> Preparation:
        message, replays = dead_letter.message, dead_letter.summary.item.replays + 1
        try:
            envelope = Envelope.read(message)
        except UndecodableError:
            return Preparation(((message.routing_key or "", unchanged(message, replays)),))
        reset = replace(envelope, attempt=1, deaths=0, replays=replays)
        attributes: dict[str, str | int] = {"task_id": str(reset.job.task_id), "replays": replays}
        with tracing.span("replay", "producer", envelope.traceparent, envelope.links, attributes):
            traced = replace(reset, traceparent=tracing.current_traceparent() or envelope.traceparent)
            return await self._refresh(traced, dead_letter)

    async def _refresh(self, envelope: Envelope, dead_letter: UnackedDeadLetter) -> Preparation:
        """Return messages for the job, or for what replaces it if its source was gone or it has no files."""
        routing_key = dead_letter.message.routing_key
        queue = routing_key if routing_key in QUEUES else None
        try:
            jobs: tuple[Job, ...] = (envelope.job,)
            if dead_letter.summary.item.code == "source_gone" or not envelope.job.files:
                jobs = await self._refresher.refresh(envelope.job)
            return Preparation(tuple((queue or job.queue, replace(envelope, job=job).message()) for job in jobs))
        except (NotReplayableError, ValueError) as error:
            return Preparation(keep_reason=str(error))


def unchanged(message: AbstractIncomingMessage, replays: int) -> Message:
    """Return a copy, without headers of earlier attempts, of a message that only another worker version can decode."""
    headers: dict[str, Any] = {
        name: value
        for name, value in message.headers.items()
        if name == "traceparent" or (name.startswith(PREFIX) and name not in OF_ATTEMPTS)
    }
    return Message(
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        type=message.type,
        timestamp=message.timestamp,
        headers=headers | {f"{PREFIX}replays": replays},
    )
