"""Publishing with aio-pika: confirmed by the broker, limited in time, counted."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final
from weakref import WeakValueDictionary

import structlog
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractMessage
from aio_pika.exceptions import ChannelInvalidStateError, ChannelNotFoundEntity, DeliveryError, PublishError

from worker.broker.errors import BROKER_ERRORS, ENDED, BrokerUnavailableError, error_text, translate_broker_errors
from worker.broker.topology import WORK, is_bound
from worker.observability.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)
MAX_REPAIRS: Final = 3
"""Number of times that one publish has a missing queue or exchange declared again."""
REPAIR_PAUSE_SECONDS: Final = 0.1
"""Pause after the second repair, and twice as long after the third: RabbitMQ may still be deleting the queue."""
REJECTED: Final = "RabbitMQ rejected the message; check that its queue has a leader and has not reached a length limit"


class Publisher:
    """Publishes on the channel that `ready_channel` returns.

    The channel must have publisher confirms, and raise an error when RabbitMQ returns a message (`on_return_raises`).

    `repair` declares missing queues and exchanges again, and returns whether none is missing now. `replace` opens
    another channel after RabbitMQ has rejected a message on the current one, and returns whether that has succeeded.
    """

    def __init__(
        self,
        ready_channel: Callable[[], Awaitable[AbstractChannel]],
        repair: Callable[[], Awaitable[bool]],
        replace: Callable[[AbstractChannel], Awaitable[bool]],
        metrics: Metrics,
    ) -> None:
        self._ready_channel = ready_channel
        self._repair = repair
        self._replace = replace
        self._metrics = metrics
        self._jobs = cache(metrics.jobs_published.labels)
        self._channel: AbstractChannel | None = None
        self._exchanges: dict[str, AbstractExchange] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def publish(
        self, exchange: str, routing_key: str, message: AbstractMessage, limit: float, *, mandatory: bool = True
    ) -> None:
        """Publish, and wait at most `limit` seconds for a channel and the confirm.

        Metrics do not count messages to the exchange "".

        Raises:
            BrokerUnavailableError: no confirm in time, rejected, or routed to no queue.
            ValueError, TypeError: the message cannot be encoded.
        """
        began = time.perf_counter()
        try:
            with translate_broker_errors():
                async with asyncio.timeout(limit), self._lock(message.message_id):
                    await self._publish(exchange, routing_key, message, mandatory=mandatory)
        except PublishError as error:
            raise BrokerUnavailableError(
                f"no queue is bound to {exchange} with routing key {routing_key!r}: {error}"
            ) from error
        except DeliveryError as error:
            raise BrokerUnavailableError(REJECTED) from error
        except TimeoutError:
            raise BrokerUnavailableError(f"no confirm within {limit:g} s; check RABBITMQ_URL and RabbitMQ") from None
        except ChannelInvalidStateError as error:
            raise BrokerUnavailableError(ENDED) from error
        except BrokerUnavailableError:
            raise
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(error_text(error)) from error
        if exchange:
            self._count(exchange, routing_key, time.perf_counter() - began)

    async def _publish(self, exchange: str, routing_key: str, message: AbstractMessage, *, mandatory: bool) -> None:
        """Publish. Correct what can be corrected and repeat.

        A missing queue or exchange is declared again. After a rejection, another channel is opened, once.
        """
        repairs, replaced = 0, False
        while True:
            target = await self._exchange(exchange)
            used = self._channel
            try:
                await target.publish(message, routing_key, mandatory=mandatory)
            except (PublishError, ChannelNotFoundEntity):
                if repairs == MAX_REPAIRS or not is_bound(exchange, routing_key) or not await self._repair():
                    raise
                await asyncio.sleep(REPAIR_PAUSE_SECONDS * repairs)
                repairs += 1
            except DeliveryError:
                if replaced or used is None or not await self._replace(used):
                    raise
                replaced = True
            else:
                return

    def _lock(self, message_id: str | None) -> asyncio.Lock:
        """Return the lock that lets messages with the same id be published only one after the other.

        RabbitMQ returns an unroutable message without its delivery tag. aiormq finds the publish by the message's id,
        and of two concurrent ones with the same id it would fail one and report the other as confirmed.
        """
        if message_id is None:  # aiormq then generates an id
            return asyncio.Lock()
        return self._locks.setdefault(message_id, asyncio.Lock())

    async def _exchange(self, name: str) -> AbstractExchange:
        """Return the exchange with this name on the current channel; "" is the default exchange."""
        channel = await self._ready_channel()
        if channel is not self._channel:
            self._channel, self._exchanges = channel, {"": channel.default_exchange}
        if name not in self._exchanges:
            self._exchanges[name] = await channel.get_exchange(name, ensure=False)
        return self._exchanges[name]

    def _count(self, exchange: str, routing_key: str, seconds: float) -> None:
        self._metrics.publish_duration.observe(seconds)
        if exchange == WORK:
            self._jobs(routing_key).inc()
        if logging.getLogger(__name__).isEnabledFor(logging.DEBUG):
            log.debug("published", exchange=exchange, routing_key=routing_key, seconds=round(seconds, 4))
