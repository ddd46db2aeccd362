"""One unacknowledged message, and the ways to settle it: ack, retry, delay, dead-letter, requeue.

The message that replaces it is published and confirmed before it is acked. A crash in between leaves a duplicate, which
is harmless. Nack and reject return the message itself: where no replacement can be published, and for an
interrupted message that is no job.
"""

from collections.abc import Awaitable, Callable, Sequence

import stamina
import structlog
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelInvalidStateError

from handlers.errors import FileProcessingError
from schemas.jobs import Job
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.envelope import Envelope, UndecodableError, build_message, failure_headers
from worker.broker.errors import BROKER_ERRORS, PUBLISH_SECONDS, BrokerUnavailableError, translate_broker_errors
from worker.consume.retry_policy import JobFailure
from worker.observability import tracing
from worker.observability.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)


class LostDeliveryError(Exception):
    """The channel of the message is closed. The broker delivers the message again, so nothing is left to settle."""


class Delivery:
    """One unacknowledged message.

    Methods that publish, except `requeue`, raise LostDeliveryError if that fails and the message's channel is closed.
    """

    def __init__(
        self,
        message: AbstractIncomingMessage,
        broker: Broker,
        metrics: Metrics,
        note_undecodable: Callable[[str], Awaitable[None]],
    ) -> None:
        """`note_undecodable` counts a message that could not be decoded, by its error code, for the digest."""
        self.message = message
        self._broker = broker
        self._metrics = metrics
        self._note_undecodable = note_undecodable

    async def ack(self) -> None:
        """Acknowledge the message."""
        await self._acknowledge(self.message.ack())

    async def nack(self) -> None:
        """Return the message unchanged to its queue, for another worker."""
        await self._acknowledge(self.message.nack(requeue=True))

    async def reject(self) -> None:
        """Return a message that cannot be settled to its queue. On every RabbitMQ this counts toward DELIVERY_LIMIT."""
        await self._acknowledge(self.message.reject(requeue=True))

    async def retry(self, envelope: Envelope, delay: int, failure: JobFailure) -> None:
        """Have `envelope` delivered after `delay` seconds (one of RETRY_DELAYS), then ack."""
        message = envelope.message(code=failure.code, error=_error_text(failure))
        await self._publish(topology.retry_name(delay), envelope.job.queue, message)
        self._metrics.retries.labels(failure.code).inc()
        await self.ack()

    async def delay(self, envelope: Envelope, delay: int) -> None:
        """Have the same attempt delivered after `delay` seconds, then ack."""
        await self.replace(topology.retry_name(delay), envelope.job.queue, envelope.message())

    async def move(self, envelope: Envelope) -> None:
        """Publish a job to its work queue in place of the message, then ack."""
        await self.replace(topology.WORK, envelope.job.queue, envelope.message())

    async def publish(self, jobs: Sequence[Job]) -> None:
        """Publish jobs to their work queues. Does not ack."""
        for job in jobs:
            await self._publish(topology.WORK, job.queue, Envelope(job).message())

    async def dead_letter(
        self, envelope: Envelope, failure: JobFailure, source_keys: Sequence[str] | None = None
    ) -> None:
        """Publish the job, or only the files with these keys, to the dead letters. Does not ack."""
        job = envelope.job if source_keys is None else envelope.job.limited_to(source_keys)
        message = envelope.next_attempt(job, counted=False).message(
            code=failure.code, error=_error_text(failure), stage=getattr(failure, "stage", "job")
        )
        await self._publish(topology.DEAD, envelope.job.queue, message)
        self._metrics.dead_letters.labels(failure.code).inc()

    async def dead_letter_undecodable(self, error: UndecodableError) -> None:
        """Publish the unchanged body to the dead letters, then ack."""
        log.error("message cannot be decoded", code=error.code, error=str(error))
        copy = build_message(
            self.message.body, self.message.message_id, failure_headers(error.code, str(error)), self.message.type
        )
        await self._publish(topology.DEAD, self.message.routing_key or "", copy)
        self._metrics.dead_letters.labels(error.code).inc()
        await self.ack()
        try:
            await self._note_undecodable(error.code)
        except FileProcessingError as problem:
            log.warning("the next digest lacks a message that cannot be decoded", reason=str(problem))

    async def requeue(self, envelope: Envelope) -> None:
        """Publish the job to its queue with the same attempt number, then ack; if that fails, nack."""
        try:
            await self._broker.publish_job(envelope, PUBLISH_SECONDS)
        except BrokerUnavailableError:
            await self.nack()
        else:
            await self.ack()

    async def replace(self, exchange: str, routing_key: str, message: Message) -> None:
        """Publish another message in place of this one, then ack."""
        await self._publish(exchange, routing_key, message)
        await self.ack()

    async def _publish(self, exchange: str, routing_key: str, message: Message) -> None:
        """Repeat the publish until it is confirmed. The delivery stays unacknowledged; a nack would cause a loop.

        Raises:
            LostDeliveryError: the channel of the delivery is closed, so the broker has requeued it.
        """
        try:
            async for trial in stamina.retry_context(on=self._is_retryable, attempts=None, timeout=None, wait_max=10.0):
                with trial, tracing.publish_span(exchange, routing_key, message.message_id):
                    await self._broker.publish(exchange, routing_key, message, PUBLISH_SECONDS)
        except BrokerUnavailableError as error:
            raise LostDeliveryError from error

    def _is_retryable(self, error: Exception) -> bool:
        return isinstance(error, BrokerUnavailableError) and not self._channel_closed

    @property
    def _channel_closed(self) -> bool:
        """Whether the channel of the delivery is closed. For a closed one, aio-pika's property may raise."""
        try:
            return self.message.channel.is_closed
        except ChannelInvalidStateError:
            return True

    async def _acknowledge(self, acknowledgement: Awaitable[object]) -> None:
        """Await an ack, nack or reject. On a closed channel it is dropped, because the broker delivers again."""
        try:
            with translate_broker_errors():
                await acknowledgement
        except BROKER_ERRORS as error:
            log.info("delivery lost before its ack; the broker delivers it again", reason=type(error).__name__)


def _error_text(failure: JobFailure) -> str:
    """Return the message of a failure: FailedFile has it in `error`, an exception is converted to text."""
    return str(getattr(failure, "error", failure))
