"""Converts `process_files` tasks that Celery producers send to Celery's queues into jobs.

It supports Celery's message protocol 2 with JSON (Celery's documentation, "Message Protocol"). A message is acked after
its job is confirmed on the work queue. A message that cannot be decoded becomes a dead letter, and its producer gets a
failure result.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from aio_pika import ExchangeType
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity

from handlers.database.task_records import TaskRecords
from schemas.jobs import CeleryReplyAddress, Job
from schemas.submissions import Submission
from worker.broker.connection import RECONNECT_SECONDS, Broker
from worker.broker.consuming import open_consuming_channel
from worker.broker.envelope import Envelope, UndecodableError
from worker.broker.errors import BROKER_ERRORS, translate_broker_errors
from worker.celery_compat.body import read_body
from worker.celery_compat.reply import failure_body, revoked_body, send_reply
from worker.consume.delivery import Delivery, LostDeliveryError
from worker.observability import tracing
from worker.observability.metrics import Metrics
from worker.settings import Settings
from worker.tasks.service import InvalidSubmissionError, build_job, read_submission

log = structlog.stdlib.get_logger(__name__)
TASK_NAME: Final = "process_files"
NO_QUEUES: Final = "none"
PARAMETERS: Final = ("urls", "user_id", "generation_id", "task_options")
CALLBACKS: Final = ("callbacks", "errbacks", "chain", "chord")
"""What a message may name to be sent after the task: link, link_error, the rest of a chain, a chord's body."""
PREFETCH: Final = 10


class CeleryInbox:
    """Moves jobs from Celery's queues (CELERY_QUEUES) to the work queues while it runs."""

    def __init__(self, settings: Settings, broker: Broker, metrics: Metrics, records: TaskRecords) -> None:
        self._settings = settings
        self._broker = broker
        self._metrics = metrics
        self._records = records

    async def run(self) -> None:
        """Consume Celery's queues until cancelled. After a lost connection or a deleted queue, start again."""
        names = [name for name in self._settings.celery_queues if name != NO_QUEUES]
        while names:
            try:
                with translate_broker_errors():
                    await self._consume(names)
            except BROKER_ERRORS as error:
                log.info("connection for Celery's queues lost", reason=type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _consume(self, names: Sequence[str]) -> None:
        """Consume the queues until the connection ends or one of them is deleted.

        The connection does not reconnect by itself: aio-pika would fail to restore it while a queue is missing.
        """
        async with open_consuming_channel(self._broker) as consuming:
            await consuming.channel.set_qos(prefetch_count=PREFETCH)
            for name in names:
                await declare(consuming.connection, name)
                await (await consuming.channel.get_queue(name)).consume(self._on_message)
            log.info("consuming Celery's queues", queues=names)
            await consuming.wait_ended()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        delivery = Delivery(message, self._broker, self._metrics, self._records.note_undecodable)
        try:
            await self._move(message, delivery)
        except LostDeliveryError:
            pass
        except Exception:
            log.exception("Celery message could not be processed")
            await delivery.nack()

    async def _move(self, message: AbstractIncomingMessage, delivery: Delivery) -> None:
        reply = reply_of(message)
        try:
            job = read_job(message, self._settings)
        except UndecodableError as error:
            await send_reply(self._broker, reply, failure_body(reply, str(error)))
            await delivery.dead_letter_undecodable(error)
            return
        if job is None:
            log.info("Celery message has expired", message_id=message.message_id)
            await send_reply(self._broker, reply, revoked_body(reply, "expired"))
            await delivery.ack()
            return
        parent = str(message.headers.get("traceparent") or "")
        with tracing.span("celery message", "consumer", parent):
            await delivery.move(Envelope(job).with_traceparent())


async def declare(connection: AbstractConnection, name: str) -> None:
    """If the queue is missing, declare it like Celery: durable, bound to a direct exchange of its name."""
    channel = await connection.channel()
    try:
        await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, durable=True)
        exchange = await channel.declare_exchange(name, ExchangeType.DIRECT, durable=True)
        await queue.bind(exchange, name)
    await channel.close()


def reply_of(message: AbstractIncomingMessage) -> CeleryReplyAddress | None:
    """Return where to send the result, or None if the producer does not wait for one."""
    if not message.reply_to or message.headers.get("ignore_result") is True:
        return None
    correlation = message.correlation_id or str(message.headers.get("id") or "")
    return CeleryReplyAddress(to=message.reply_to, correlation_id=correlation) if correlation else None


def read_job(message: AbstractIncomingMessage, settings: Settings) -> Job | None:
    """Return the job that a Celery message describes, or None if the message has expired.

    Raises:
        UndecodableError: it is not protocol 2 with JSON, is for another task, or has invalid arguments.
    """
    headers = message.headers
    if headers.get("task") != TASK_NAME:
        raise UndecodableError(f"the task is {str(headers.get('task'))[:100]!r}, not {TASK_NAME!r}", "undecodable")
    expires = _parse_time(headers.get("expires"))
    if expires is not None and expires <= datetime.now(UTC):
        return None
    try:
        args, kwargs, embed = read_body(message)
        job = build_job(_submission(args, kwargs), settings)
    except InvalidSubmissionError as error:
        raise UndecodableError(f"{TASK_NAME}: {error}", "undecodable") from None
    if ignored := [name for name in CALLBACKS if embed.get(name)]:
        log.warning("Celery tasks that should follow are not sent", kinds=ignored, task_id=str(job.task_id))
    changes = {"source": "celery", "reply": reply_of(message), "not_before": _parse_time(headers.get("eta"))}
    return job.model_copy(update=changes)


def _submission(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Submission:
    if len(args) > len(PARAMETERS):
        raise InvalidSubmissionError(f"the arguments are not {', '.join(PARAMETERS)}")
    arguments: dict[str, Any] = dict(zip(PARAMETERS, args, strict=False)) | dict(kwargs)
    if arguments.get("task_options", ...) is None:
        del arguments["task_options"]
    for name in ("user_id", "generation_id"):
        if isinstance(arguments.get(name), int):
            arguments[name] = str(arguments[name])
    return read_submission(**arguments)


def _parse_time(value: object) -> datetime | None:
    """Parse a time in Celery's format. A time without an offset is UTC."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        raise UndecodableError("eta or expires is not an ISO 8601 time", "undecodable") from None
    return None if parsed is None else parsed.replace(tzinfo=parsed.tzinfo or UTC)
