"""The way out: publishing on one channel of aiormq, many messages a write, each with a confirm of its own.

aiormq's `basic_publish` takes messages one by one: a lock, two futures in two registries, a time limit and a wait for
the writer each, which costs more than all else a webhook needs. Here whatever came since the last write is the next
one, and its size is bounded, so that a broker that stops reading holds up messages here and not in the socket's buffer.

The numbering is aiormq's own (`delivery_tag`, `confirmations`): its reader settles our futures. So nobody else may
publish on the channel, not even by aio-pika's exchanges.
"""

import asyncio
from functools import lru_cache
from itertools import chain
from typing import Final

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from aiormq.exceptions import PublishError
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.frame import marshal
from pamqp.header import ContentHeader

WRITE_BYTES: Final = 256 * 1024
"""What is written at once; a single larger message goes alone."""
FULL_SECONDS: Final = 0.005
"""How soon to look again when aiormq's own queue of frames is full."""


class ChannelLostError(ConnectionError):
    """The channel ended before RabbitMQ answered; `__cause__` is why, where it was told."""


class Outlet:
    """Belongs to one aiormq channel with publisher confirms, which raises for returned messages, and ends with it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._loop = asyncio.get_running_loop()
        self._messages: dict[str, list[_Message]] = {}
        self._unwritten: dict[_Message, None] = {}
        self._writing = False
        channel.closing.add_done_callback(self._end)

    @property
    def is_open(self) -> bool:
        """Whether anything can be published here."""
        return not self.channel.is_closed

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: Basic.Properties,
        body: bytes,
        limit: float,
        *,
        mandatory: bool,
    ) -> None:
        """Publish a message that has an id, and wait at most `limit` seconds for its confirm.

        Raises:
            PublishError: no queue took it. DeliveryError: the broker refused it.
            ChannelLostError: the channel ended first. TimeoutError: no answer in time.
            ValueError, TypeError: it cannot be put into frames.
        """
        if not self.is_open:
            raise ChannelLostError("the channel is closed")
        frames = self._frames(exchange, routing_key, properties, body, mandatory=mandatory)
        namesakes = self._messages.setdefault(properties.message_id or "", [])
        message = _Message(properties.message_id or "", frames, namesakes, self._loop)
        namesakes.append(message)
        self._unwritten[message] = None
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._write)
        try:
            await self._answered(message, limit)
        finally:
            self._unwritten.pop(message, None)  # never sent, then
            self._forget(message)

    async def _answered(self, message: "_Message", limit: float) -> None:
        task = asyncio.current_task()
        cancelling = 0 if task is None else task.cancelling()
        # Cancelled, as aiormq does it: a confirm that comes late is then no warning.
        timer = self._loop.call_later(limit, message.cancel)
        try:
            await message
        except asyncio.CancelledError:
            if task is not None and task.cancelling() > cancelling:
                raise
            raise TimeoutError from None
        finally:
            timer.cancel()
        if message.returned is not None:
            raise message.returned

    def _forget(self, message: "_Message") -> None:
        """Have aiormq look for what comes back among those of the id that are still under way."""
        namesakes = message.namesakes
        namesakes.remove(message)
        if not namesakes:
            del self._messages[message.id]
        number = next((one.number for one in reversed(namesakes) if one.number), 0)
        if number:
            self.channel.message_id_delivery_tag[message.id] = number
        else:
            self.channel.message_id_delivery_tag.pop(message.id, None)

    def _frames(
        self, exchange: str, routing_key: str, properties: Basic.Properties, body: bytes, *, mandatory: bool
    ) -> bytes:
        number, most = self.channel.number, self.channel.max_content_size
        frames = [
            _method(number, exchange, routing_key, mandatory=mandatory),
            marshal(ContentHeader(properties=properties, body_size=len(body)), number),
        ]
        frames += [marshal(ContentBody(body[at : at + most]), number) for at in range(0, len(body), most)]
        return b"".join(frames)

    def _write(self) -> None:
        """Hand what waits to aiormq's writer. In one step, so that the numbers are the broker's."""
        self._writing = False
        channel, write, size = self.channel, [], 0
        if channel.is_closed or not self._unwritten:
            return  # `_end` has told, or will tell, who waits
        if channel.write_queue.full():
            self._writing = True
            self._loop.call_later(FULL_SECONDS, self._write)
            return
        while self._unwritten and size < WRITE_BYTES:
            message = next(iter(self._unwritten))
            del self._unwritten[message]
            if message.done():  # too late already
                continue
            channel.delivery_tag += 1
            message.number = channel.delivery_tag
            channel.confirmations[message.number] = message
            channel.message_id_delivery_tag[message.id] = message.number
            write.append(message.frames)
            size += len(message.frames)
        if not write:
            return
        drained = channel.create_future()  # rejected when the channel ends
        channel.write_queue.put_nowait(ChannelFrame(b"".join(write), should_close=False, drain_future=drained))
        self._writing = True
        drained.add_done_callback(self._written)

    def _written(self, _: asyncio.Future[None]) -> None:
        self._write()

    def _end(self, closing: asyncio.Future[object]) -> None:
        """Tell everybody who waits that the channel is gone."""
        cause = None if closing.cancelled() else closing.exception()
        for message in chain.from_iterable(self._messages.values()):
            if not message.done():
                lost = ChannelLostError("the channel ended before RabbitMQ answered")
                lost.__cause__ = cause
                message.set_exception(lost)


class _Message(asyncio.Future[object]):
    """One that is under way, and its confirm. `number` is the broker's, 0 until it is written."""

    def __init__(
        self, message_id: str, frames: bytes, namesakes: list["_Message"], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(loop=loop)
        self.id = message_id
        self.frames = frames
        self.namesakes = namesakes
        self.number = 0
        self.returned: PublishError | None = None

    def set_exception(self, error: type | BaseException, /) -> None:
        """Take what aiormq tells of this message. One that came back counts for all of its id.

        It is known by the id alone, so it may be any of them, and aiormq tells the last one, also when that one is
        cancelled already; there asyncio would raise, and end aiormq's reader.
        """
        if isinstance(error, PublishError):
            for one in self.namesakes:
                one.returned = error
        if not self.done():
            super().set_exception(error)


@lru_cache(maxsize=256)
def _method(number: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """Return the frame that begins a message."""
    return marshal(Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory), number)
