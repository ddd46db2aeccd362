"""A message in our hands, and the ways to let go of it: ack, put off, bury, hand back.

Whatever takes the message's place is published and confirmed before the message is acked; a crash in between leaves
two, and two are harmless. Nack serves only where no successor can be published.
"""

from collections.abc import Awaitable, Sequence

import stamina
import structlog
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelInvalidStateError

from worker.broker import topology
from worker.broker.connection import BROKER_ERRORS, Broker, BrokerUnavailableError, translate_broker_errors
from worker.broker.envelope import Envelope, UndecodableError, build_message, failure_headers
from worker.broker.errors import PUBLISH_SECONDS
from worker.consume.retry_policy import JobFailure
from worker.observability import tracing
from worker.observability.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)


class LostDeliveryError(Exception):
    """The channel the message came by is gone: the broker will deliver it again, so there is nothing left to do."""


class Delivery:
    """One unacknowledged message."""

    def __init__(self, message: AbstractIncomingMessage, broker: Broker, metrics: Metrics) -> None:
        self.message = message
        self._broker = broker
        self._metrics = metrics

    async def ack(self) -> None:
        """Be done with it."""
        await self._quietly(self.message.ack())

    async def nack(self) -> None:
        """Give it back as it came, for another worker."""
        await self._quietly(self.message.nack(requeue=True))

    async def reject(self) -> None:
        """Give it back as something we cannot settle. On every RabbitMQ a rejection counts toward the limit."""
        await self._quietly(self.message.reject(requeue=True))

    async def retry(self, envelope: Envelope, delay: int, failure: JobFailure) -> None:
        """Have `envelope` delivered after `delay` seconds (a rung of the ladder), then ack."""
        message = envelope.message(code=failure.code, error=_said(failure))
        await self._publish(topology.retry_name(delay), envelope.job.queue, message)
        self._metrics.retries.labels(failure.code).inc()
        await self.ack()

    async def delay(self, envelope: Envelope, delay: int) -> None:
        """Have the same attempt delivered after `delay` seconds, then ack."""
        await self._replace(topology.retry_name(delay), envelope.job.queue, envelope.message())

    async def move(self, envelope: Envelope) -> None:
        """Put a job of ours in the message's place."""
        await self._replace(topology.WORK, envelope.job.queue, envelope.message())

    async def dead_letter(
        self, envelope: Envelope, failure: JobFailure, source_keys: Sequence[str] | None = None
    ) -> None:
        """Put the job, or just the files of these keys, among the dead letters. Does not ack."""
        job = envelope.job if source_keys is None else envelope.job.limited_to(source_keys)
        message = envelope.next_attempt(job, counted=False).message(
            code=failure.code, error=_said(failure), stage=getattr(failure, "stage", "job")
        )
        await self._publish(topology.DEAD, envelope.job.queue, message)
        self._metrics.dead_letters.labels(failure.code).inc()

    async def dead_letter_undecodable(self, error: UndecodableError) -> None:
        """Put the very bytes among the dead letters, then ack."""
        log.error("message cannot be decoded", code=error.code, error=str(error))
        copy = build_message(
            self.message.body, self.message.message_id, failure_headers(error.code, str(error)), self.message.type
        )
        await self._publish(topology.DEAD, self.message.routing_key or "", copy)
        self._metrics.dead_letters.labels(error.code).inc()
        await self.ack()

    async def requeue(self, envelope: Envelope) -> None:
        """Return the job to its queue with the attempt it had: a shutdown is nobody's failure."""
        try:
            await self._broker.publish_job(envelope, PUBLISH_SECONDS)
        except BrokerUnavailableError:
            await self._quietly(self.message.nack(requeue=True))
        else:
            await self.ack()

    async def _replace(self, exchange: str, routing_key: str, message: Message) -> None:
        await self._publish(exchange, routing_key, message)
        await self.ack()

    async def _publish(self, exchange: str, routing_key: str, message: Message) -> None:
        """Publish until it is confirmed. The delivery is held meanwhile: nothing is nacked in a loop.

        Raises:
            LostDeliveryError: the channel the delivery came by is closed, so the broker has it back already.
        """
        try:
            async for trial in stamina.retry_context(
                on=self._worth_repeating, attempts=None, timeout=None, wait_max=10.0
            ):
                with trial, tracing.publish_span(exchange, routing_key, message.message_id):
                    await self._broker.publish(exchange, routing_key, message, PUBLISH_SECONDS)
        except BrokerUnavailableError as error:
            raise LostDeliveryError from error

    def _worth_repeating(self, error: Exception) -> bool:
        return isinstance(error, BrokerUnavailableError) and not self._lost

    @property
    def _lost(self) -> bool:
        """Whether the channel it came by is closed; aio-pika does not give out one that is."""
        try:
            return self.message.channel.is_closed
        except ChannelInvalidStateError:
            return True

    async def _quietly(self, acknowledgement: Awaitable[object]) -> None:
        """Ack or nack; on a channel that is gone there is nothing to acknowledge, the broker delivers again."""
        try:
            with translate_broker_errors():
                await acknowledgement
        except BROKER_ERRORS as error:
            log.info("delivery was lost before its ack; it will come again", reason=type(error).__name__)


def _said(failure: JobFailure) -> str:
    """Return what a failure says: FailedFile has it in `error`, an exception in its text."""
    return str(getattr(failure, "error", failure))
