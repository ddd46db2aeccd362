"""Publishing over whatever channel there is: one that was lost is replaced by aio-pika, and our outlet with it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final
from uuid import uuid4

import structlog
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import PublishError
from aiormq.channel import Channel
from pamqp.commands import Basic

from worker.metrics import Metrics
from worker.outlet import ChannelLostError, Outlet
from worker.topology import WORK
from worker.unavailable import BROKER_ERRORS, ENDED, BrokerUnavailableError, translate_broker_errors

NAME: Final = "worker.broker"
"""The logger's name, since it is the broker's line; LOG_LEVELS of its users say so."""
log = structlog.stdlib.get_logger(NAME)


class Publisher:
    """Publishes by the channel that `usable` returns. Nobody else may publish on it (see `outlet.py`)."""

    def __init__(self, usable: Callable[[], Awaitable[AbstractChannel]], metrics: Metrics) -> None:
        self._usable = usable
        self._metrics = metrics
        self._jobs = cache(metrics.jobs_published.labels)
        self._outlet: Outlet | None = None

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: Basic.Properties,
        body: bytes,
        limit: float,
        *,
        mandatory: bool = True,
    ) -> None:
        """Publish, and wait at most `limit` seconds for a channel and the confirm. Counted, but to a queue by its name.

        Raises:
            BrokerUnavailableError: no confirm in time, refused, or no queue took it.
        """
        began, outlet = time.perf_counter(), self._outlet
        properties.message_id = properties.message_id or uuid4().hex
        try:
            if outlet is None or not outlet.is_open:
                with translate_broker_errors():
                    async with asyncio.timeout(limit):
                        outlet = await self._reach()
            left = limit - (time.perf_counter() - began)
            await outlet.publish(exchange, routing_key, properties, body, left, mandatory=mandatory)
        except PublishError as error:
            raise BrokerUnavailableError(f"no queue takes {routing_key!r} on {exchange}: {error}") from error
        except TimeoutError:
            raise BrokerUnavailableError(f"no confirm within {limit:g} s; look at RABBITMQ_URL and RabbitMQ") from None
        except ChannelLostError as error:
            raise BrokerUnavailableError(_why(error)) from error
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(f"{type(error).__name__}: {error}") from error
        if exchange:
            self._count(exchange, routing_key, time.perf_counter() - began)

    def _count(self, exchange: str, routing_key: str, seconds: float) -> None:
        self._metrics.publish_duration.observe(seconds)
        if exchange == WORK:
            self._jobs(routing_key).inc()
        if logging.getLogger(NAME).isEnabledFor(logging.DEBUG):
            log.debug("published", exchange=exchange, routing_key=routing_key, seconds=round(seconds, 4))

    async def _reach(self) -> Outlet:
        channel = await (await self._usable()).get_underlay_channel()
        if not isinstance(channel, Channel):
            raise TypeError(f"aio-pika publishes by a {type(channel).__name__}, which worker/outlet.py does not know")
        if self._outlet is None or self._outlet.channel is not channel:
            self._outlet = Outlet(channel)
        return self._outlet


def _why(lost: ChannelLostError) -> str:
    """Say what ended a channel: RabbitMQ's own words, where it said any."""
    cause = lost.__cause__
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, BROKER_ERRORS) else ENDED
