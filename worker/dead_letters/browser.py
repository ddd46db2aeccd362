"""The dead letters in our hands, a window at a time; what is not acked lies there afterwards as it did before.

Letters are looked at by consuming them without an answer: a few thousand a second, ten times what basic.get does. They
go back when the channel closes, which RabbitMQ also does by itself when this process dies. Closing, and consumer tags
in rising order, keep their order: a quorum queue returns what each consumer holds sorted, consumer by consumer, while
one nack for more than 32 messages returns them in the order of a hash table (measured with 3.10.8). What goes back
lies behind what was never taken, so the order is kept as a whole only by who takes all.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final, TypeVar

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from worker.broker import topology
from worker.broker.errors import PUBLISH_SECONDS

SILENCE_SECONDS: Final = 3.0
RETURN_SECONDS: Final = 5.0
FIRST_WINDOW: Final = 64
ENOUGH: Final = 128
"""Letters a window should hold; while it holds fewer, the next one is twice as large."""
LARGEST_WINDOW: Final = 65535
"""AMQP counts a prefetch in 16 bits; 0, which means no limit elsewhere, is 2000 to a quorum queue."""
MOST_WINDOWS: Final = 30
"""Consumers of one channel: up to 32 the broker keeps them sorted. Since windows grow, these suffice for over a million
letters that are only looked at."""
ACKS_AT_ONCE: Final = 16
"""Above 32 unconfirmed commands a quorum queue's client holds acks back, and a closing channel would lose them."""
T = TypeVar("T")


class DeadLetterBrowser:
    """The dead letters in our hands: the `count` there were when we came, and not one that came later."""

    def __init__(self, reading: AbstractChannel, publishing: AbstractChannel, count: int) -> None:
        self.count = count
        self._reading = reading
        self._publishing = publishing
        self._left = count
        self._taken = self._acked = self._windows = 0

    async def windows(self, look: Callable[[AbstractIncomingMessage], T | None]) -> AsyncGenerator[list[T], None]:
        """Yield, a window of letters at a time, what `look` made of them; None is left out, and its body forgotten.

        `look` is called for each letter as it comes, so that bodies (of up to 8 MiB) need not pile up.
        """
        size = FIRST_WINDOW
        while self._left > 0:
            found = await self._window(min(size, self._left), look)
            if found is None:
                return
            yield found
            if len(found) < ENOUGH:
                size = min(size * 2, LARGEST_WINDOW)

    @property
    def exhausted(self) -> bool:
        """Whether another window would cost the order of what lies here."""
        return self._windows >= MOST_WINDOWS

    async def _window(self, wanted: int, look: Callable[[AbstractIncomingMessage], T | None]) -> list[T] | None:
        """Take so many letters; None when none came any more."""
        seen, found, full = 0, [], asyncio.get_running_loop().create_future()

        async def take(message: AbstractIncomingMessage) -> None:
            nonlocal seen
            seen += 1
            self._taken += 1
            try:
                if (what := look(message)) is not None:
                    found.append(what)
            except Exception as error:  # noqa: BLE001 - raised again where it can be seen
                if not full.done():
                    full.set_exception(error)
            if seen == wanted and not full.done():
                full.set_result(None)

        await self._reading.set_qos(prefetch_count=wanted)
        queue = await self._reading.get_queue(topology.DEAD, ensure=False)
        tag = await queue.consume(take, consumer_tag=f"outlast.dead-{self._windows:06}")
        self._windows += 1
        before = -1
        while not full.done() and before != seen:
            before = seen
            await asyncio.wait([full], timeout=SILENCE_SECONDS)
        await queue.cancel(tag)
        if full.done():
            full.result()
        self._left = self._left - seen if seen == wanted else 0
        return found if seen else None

    async def publish(self, routing_key: str, message: Message) -> None:
        """Put a message on a work queue and wait for the confirm; raises PublishError when no queue takes it."""
        target = await self._publishing.get_exchange(topology.WORK, ensure=False)
        await target.publish(message, routing_key, mandatory=True, timeout=PUBLISH_SECONDS)

    async def ack(self, message: AbstractIncomingMessage) -> None:
        """Remove a letter for good."""
        await message.ack()
        self._acked += 1
        if self._acked % ACKS_AT_ONCE == 0:
            await lying(self._reading)

    async def give_back(self) -> None:
        """Put back what was not acked, and wait until it lies there again, so that the next reader finds it."""
        expected = self._taken - self._acked + await lying(self._reading)
        await self._reading.close()
        until = time.monotonic() + RETURN_SECONDS
        while await lying(self._publishing) < expected and time.monotonic() < until:  # noqa: ASYNC110 - it is the broker's doing
            await asyncio.sleep(0.005)


async def lying(channel: AbstractChannel) -> int:
    """Return how many letters lie there that nobody holds."""
    declared = await channel.declare_queue(topology.DEAD, passive=True)
    return declared.declaration_result.message_count or 0
