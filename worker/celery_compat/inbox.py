"""Celery producers keep working: `process_files`, sent to a queue as Celery declares it, becomes a job of ours.

Understood is message protocol 2 with JSON (Celery's documentation, "Message Protocol"). The message is acked only once
its job is confirmed on our queue; one that cannot be read goes to the dead letters, and its sender is told.
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue, AbstractRobustChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from schemas.jobs import CeleryReply, Job
from schemas.submissions import Submission
from worker.broker.connection import RECONNECT_SECONDS, Broker
from worker.broker.envelope import Envelope, UndecodableError
from worker.broker.errors import BROKER_ERRORS, translate_broker_errors
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
PREFETCH: Final = 10


class CeleryInbox:
    """Moves jobs from Celery's queues (CELERY_QUEUES) to ours while it runs."""

    def __init__(self, settings: Settings, broker: Broker, metrics: Metrics) -> None:
        self._settings = settings
        self._broker = broker
        self._metrics = metrics

    async def run(self) -> None:
        """Move until cancelled; a broker that is away is waited for."""
        channel: AbstractRobustChannel | None = None
        names = [name for name in self._settings.celery_queues if name != NO_QUEUES]
        while names:
            try:
                with translate_broker_errors():
                    channel = channel or await self._broker.channel()
                    await channel.set_qos(prefetch_count=PREFETCH)
                    for name in names:
                        await (await declare(self._broker, channel, name)).consume(self._take)
                log.info("taking Celery's messages", queues=names)
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if channel is not None:
                    await channel.close()
                raise
            except BROKER_ERRORS as error:
                log.warning("broker lost before consuming", reason=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        delivery = Delivery(message, self._broker, self._metrics)
        try:
            await self._move(message, delivery)
        except LostDeliveryError:
            pass
        except Exception:
            log.exception("a Celery message could not be moved")
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
            log.info("a Celery message has expired", message_id=message.message_id)
            await send_reply(self._broker, reply, revoked_body(reply, "expired"))
            await delivery.ack()
            return
        sender = str(message.headers.get("traceparent") or "")
        with tracing.span("celery message", "consumer", sender):
            await delivery.move(Envelope(job).with_traceparent())


async def declare(broker: Broker, channel: AbstractRobustChannel, name: str) -> AbstractQueue:
    """Return the queue: as it is, else made as Celery makes it: durable, on a direct exchange of its name."""
    connection = await broker.open_connection()
    try:
        probe: AbstractChannel = await connection.channel()
        try:
            await probe.declare_queue(name, passive=True)
        except ChannelNotFoundEntity:
            probe = await connection.channel()
            queue = await probe.declare_queue(name, durable=True)
            exchange = await probe.declare_exchange(name, ExchangeType.DIRECT, durable=True)
            await queue.bind(exchange, name)
    finally:
        await connection.close()
    return await channel.get_queue(name)


def reply_of(message: AbstractIncomingMessage) -> CeleryReply | None:
    """Return where the sender waits for the result; None where it does not."""
    if not message.reply_to or message.headers.get("ignore_result") is True:
        return None
    correlation = message.correlation_id or str(message.headers.get("id") or "")
    return CeleryReply(to=message.reply_to, correlation_id=correlation) if correlation else None


def read_job(message: AbstractIncomingMessage, settings: Settings) -> Job | None:
    """Return the job a Celery message asks for; None when it has expired.

    Raises:
        UndecodableError: it is not protocol 2 with JSON, another task's, or its arguments are not those of the API.
    """
    headers = message.headers
    if headers.get("task") != TASK_NAME:
        raise UndecodableError(f"the task is {str(headers.get('task'))[:100]!r}, not {TASK_NAME!r}", "undecodable")
    expires = _moment(headers.get("expires"))
    if expires is not None and expires <= datetime.now(UTC):
        return None
    try:
        job = build_job(_submission(message.body), settings)
    except InvalidSubmissionError as error:
        raise UndecodableError(f"{TASK_NAME}: {error}", "undecodable") from None
    changes = {"source": "celery", "reply": reply_of(message), "not_before": _moment(headers.get("eta"))}
    return job.model_copy(update=changes)


def _submission(body: bytes) -> Submission:
    try:
        args, kwargs, _embedded = json.loads(body)
    except (ValueError, TypeError):
        raise InvalidSubmissionError("the body is not [args, kwargs, embedded] in JSON") from None
    if not isinstance(args, Sequence) or not isinstance(kwargs, dict) or len(args) > len(PARAMETERS):
        raise InvalidSubmissionError(f"the arguments are not {', '.join(PARAMETERS)}")
    given: dict[str, Any] = dict(zip(PARAMETERS, args, strict=False)) | kwargs
    if given.get("task_options", ...) is None:
        del given["task_options"]
    for name in ("user_id", "generation_id"):
        if isinstance(given.get(name), int):
            given[name] = str(given[name])
    return read_submission(**given)


def _moment(value: object) -> datetime | None:
    """Read a time as Celery writes it; one without an offset is UTC."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        raise UndecodableError("eta or expires is no ISO 8601 time", "undecodable") from None
    return None if found is None else found.replace(tzinfo=found.tzinfo or UTC)
