"""Read the queue of dead letters in batches without removing messages, unless they are acked.

Messages are consumed and left unacked, which is ten times as fast as basic.get: a few thousand per second. They return
to the queue when the channel closes, also when this process dies.

Order: a quorum queue returns the messages of each consumer sorted, one consumer after the other. A closing channel and
ascending consumer tags therefore keep the order. One nack for more than 32 messages does not: they return in the order
of a hash table (RabbitMQ 3.10.8). Returned messages go behind those that were never delivered, so the order of the
whole queue is kept only if all messages were read.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final, TypeVar

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from worker.broker import topology
from worker.broker.errors import PUBLISH_SECONDS

IDLE_SECONDS: Final = 3.0
REQUEUE_SECONDS: Final = 5.0
FIRST_WINDOW: Final = 64
MIN_SELECTED: Final = 128
"""If a window selects fewer messages, the next one is twice as large."""
MAX_WINDOW: Final = 65535
"""AMQP counts a prefetch in 16 bits. Quorum queues treat 0, which means no limit for others, as 2000."""
MAX_WINDOWS: Final = 30
"""Consumers of one channel; the broker keeps up to 32 sorted. Since windows grow, 30 are enough for over a million
messages of which none is selected."""
ACK_BATCH: Final = 16
"""With more than 32 unconfirmed commands, a quorum queue delays acks, and closing the channel would lose them."""
T = TypeVar("T")


class DeadLetterBrowser:
    """The messages that were in the queue when it was opened. Later ones are not read. `count` is their number."""

    def __init__(self, reading: AbstractChannel, publishing: AbstractChannel, count: int) -> None:
        self.count = count
        self._reading = reading
        self._publishing = publishing
        self._unread = count
        self._delivered = self._acked = self._windows = 0

    async def windows(self, select: Callable[[AbstractIncomingMessage], T | None]) -> AsyncGenerator[list[T], None]:
        """Yield the results of `select`, one window of messages at a time. Results that are None are left out.

        `select` is called as each message arrives, so that bodies (up to 8 MiB each) do not accumulate in memory.
        """
        size = FIRST_WINDOW
        while self._unread > 0:
            selected = await self._read_window(min(size, self._unread), select)
            if selected is None:
                return
            yield selected
            if len(selected) < MIN_SELECTED:
                size = min(size * 2, MAX_WINDOW)

    @property
    def window_limit_reached(self) -> bool:
        """Whether another window would lose the order of the queue."""
        return self._windows >= MAX_WINDOWS

    async def _read_window(self, size: int, select: Callable[[AbstractIncomingMessage], T | None]) -> list[T] | None:
        """Read up to `size` messages; return None if no message arrived within IDLE_SECONDS."""
        delivered, selected, complete = 0, [], asyncio.get_running_loop().create_future()

        async def on_message(message: AbstractIncomingMessage) -> None:
            nonlocal delivered
            delivered += 1
            self._delivered += 1
            try:
                if (result := select(message)) is not None:
                    selected.append(result)
            except Exception as error:  # noqa: BLE001 - raised again below, in the caller's task
                if not complete.done():
                    complete.set_exception(error)
            if delivered == size and not complete.done():
                complete.set_result(None)

        await self._reading.set_qos(prefetch_count=size)
        queue = await self._reading.get_queue(topology.DEAD, ensure=False)
        tag = await queue.consume(on_message, consumer_tag=f"outlast.dead-{self._windows:06}")
        self._windows += 1
        before = -1
        while not complete.done() and before != delivered:
            before = delivered
            await asyncio.wait([complete], timeout=IDLE_SECONDS)
        await queue.cancel(tag)
        if complete.done():
            complete.result()
        self._unread = self._unread - delivered if delivered == size else 0
        return selected if delivered else None

    async def publish(self, routing_key: str, message: Message) -> None:
        """Publish to a work queue and wait for the confirm. Raises PublishError if no queue is bound to the key."""
        exchange = await self._publishing.get_exchange(topology.WORK, ensure=False)
        await exchange.publish(message, routing_key, mandatory=True, timeout=PUBLISH_SECONDS)

    async def ack(self, message: AbstractIncomingMessage) -> None:
        """Remove a message from the queue."""
        await message.ack()
        self._acked += 1
        if self._acked % ACK_BATCH == 0:
            await count_waiting(self._reading)

    async def requeue_unacked(self) -> None:
        """Return all unacked messages; wait up to REQUEUE_SECONDS until they are in the queue, for the next reader."""
        expected = self._delivered - self._acked + await count_waiting(self._reading)
        await self._reading.close()
        until = time.monotonic() + REQUEUE_SECONDS
        while await count_waiting(self._publishing) < expected and time.monotonic() < until:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)


async def count_waiting(channel: AbstractChannel) -> int:
    """Return the number of messages in the queue that are not delivered to a consumer."""
    declared = await channel.declare_queue(topology.DEAD, passive=True)
    return declared.declaration_result.message_count or 0
