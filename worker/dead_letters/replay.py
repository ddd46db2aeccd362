"""Replay: a dead letter's job goes back to its queue as if it were new, but for its history's beginning."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage

from schemas.jobs import Job, Queue
from worker.broker.envelope import PREFIX, Envelope, UndecodableError
from worker.dead_letters.batch import Held, Ready
from worker.dead_letters.source_refresh import SourceRefresher, StaysError
from worker.dead_letters.summary import DeadLetterMessage
from worker.observability import tracing
from worker.observability.metrics import Metrics
from worker.observability.span_types import Attribute

QUEUES: Final = frozenset(queue.value for queue in Queue)
CARRIED: Final = ("traceparent", f"{PREFIX}first-seen")


class Replay:
    """Publishes, confirms, acks. Letters whose source was gone are looked into first."""

    at_once = 8

    def __init__(self, freshener: SourceRefresher, metrics: Metrics | None = None) -> None:
        self._freshener = freshener
        self._metrics = metrics

    async def prepare(self, held: Sequence[Held]) -> Sequence[Ready]:
        """Build the messages that take the letters' places."""
        return await asyncio.gather(*(self._successors(one) for one in held))

    def done(self, _letter: DeadLetterMessage) -> None:
        """Count it."""
        if self._metrics is not None:
            self._metrics.dead_letters_replayed.inc()

    async def _successors(self, held: Held) -> Ready:
        message = held.message
        try:
            envelope = Envelope.read(message)
        except UndecodableError:
            return Ready(((message.routing_key or "", _as_it_is(message, held.letter.item.replays + 1)),))
        again = replace(envelope, attempt=1, deaths=0, replays=held.letter.item.replays + 1)
        about: dict[str, Attribute] = {"task_id": str(again.job.task_id), "replays": again.replays}
        with tracing.span("replay", "producer", envelope.traceparent, envelope.links, about):
            return await self._again(replace(again, traceparent=tracing.current_traceparent() or envelope.traceparent), held)

    async def _again(self, again: Envelope, held: Held) -> Ready:
        message = held.message
        try:
            jobs: tuple[Job, ...] = (again.job,)
            if held.letter.item.code == "source_gone" or not again.job.files:
                jobs = await self._freshener.jobs(again.job)
            key = message.routing_key if message.routing_key in QUEUES else None
            return Ready(tuple((key or job.queue, replace(again, job=job).message()) for job in jobs))
        except (StaysError, ValueError) as error:
            return Ready(stays=str(error))


def _as_it_is(message: AbstractIncomingMessage, replays: int) -> Message:
    """Return the same bytes and properties, for a version that may understand them."""
    headers: dict[str, Any] = {name: message.headers[name] for name in CARRIED if name in message.headers}
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
