"""Publishing with aio-pika: confirmed by the broker, limited in time, counted."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import cache
from weakref import WeakValueDictionary

import structlog
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractMessage
from aio_pika.exceptions import ChannelInvalidStateError, PublishError

from worker.broker.errors import BROKER_ERRORS, ENDED, BrokerUnavailableError, translate_broker_errors
from worker.broker.topology import WORK
from worker.observability.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)


class Publisher:
    """Publishes on the channel that `ready_channel` returns. It has publisher confirms and raises on returns."""

    def __init__(self, ready_channel: Callable[[], Awaitable[AbstractChannel]], metrics: Metrics) -> None:
        self._ready_channel = ready_channel
        self._metrics = metrics
        self._jobs = cache(metrics.jobs_published.labels)
        self._channel: AbstractChannel | None = None
        self._exchanges: dict[str, AbstractExchange] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def publish(
        self, exchange: str, routing_key: str, message: AbstractMessage, limit: float, *, mandatory: bool = True
    ) -> None:
        """Publish, and wait at most `limit` seconds for a channel and the confirm. The exchange "" is not counted.

        Raises:
            BrokerUnavailableError: no confirm in time, rejected, or routed to no queue.
            ValueError, TypeError: the message cannot be encoded.
        """
        began = time.perf_counter()
        try:
            with translate_broker_errors():
                async with asyncio.timeout(limit), self._lock(message.message_id):
                    target = await self._exchange(exchange)
                    await target.publish(message, routing_key, mandatory=mandatory)
        except PublishError as error:
            raise BrokerUnavailableError(
                f"no queue is bound to {exchange} with routing key {routing_key!r}: {error}"
            ) from error
        except TimeoutError:
            raise BrokerUnavailableError(f"no confirm within {limit:g} s; check RABBITMQ_URL and RabbitMQ") from None
        except ChannelInvalidStateError as error:
            raise BrokerUnavailableError(ENDED) from error
        except BrokerUnavailableError:
            raise
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(f"{type(error).__name__}: {error}") from error
        if exchange:
            self._count(exchange, routing_key, time.perf_counter() - began)

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
