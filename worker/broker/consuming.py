"""A channel for consuming, on a connection of its own that does not reconnect.

After any failure, the caller opens a new channel and declares its queues again. A connection that reconnects by itself
would not do that: aio-pika consumes again, but does not declare a queue that was deleted.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractConnection

from worker.broker.connection import RECONNECT_SECONDS, Broker
from worker.broker.errors import BROKER_ERRORS

STEP_SECONDS: Final = 10.0
"""Time limit for opening the channel, and for closing its connection, in case the broker does not answer."""


@dataclass(frozen=True, slots=True)
class ConsumingChannel:
    """The channel and its connection. `cancelled` is set when RabbitMQ cancels a consumer, often of a deleted queue."""

    connection: AbstractConnection
    channel: AbstractChannel
    cancelled: asyncio.Event

    @property
    def ended(self) -> bool:
        """Whether some queue is no longer consumed."""
        return self.cancelled.is_set() or self.channel.is_closed or self.connection.is_closed

    async def wait_ended(self) -> None:
        """Wait until some queue is no longer consumed."""
        while not self.ended:  # noqa: ASYNC110 - an end during the set-up fires no callback
            await asyncio.sleep(RECONNECT_SECONDS)


@contextlib.asynccontextmanager
async def open_consuming_channel(broker: Broker) -> AsyncIterator[ConsumingChannel]:
    """Open the channel; close it and its connection when the context ends. Raises one of BROKER_ERRORS."""
    connection, cancelled = await broker.open_connection(), asyncio.Event()
    try:
        async with asyncio.timeout(STEP_SECONDS):
            channel = await connection.channel()
            underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
        yield ConsumingChannel(connection, channel, cancelled)
    finally:
        with contextlib.suppress(*BROKER_ERRORS):
            await asyncio.wait_for(connection.close(), STEP_SECONDS)
