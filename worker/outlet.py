"""The way out: publishing on one channel of aiormq, many messages a write, each with a confirm of its own.

aiormq's `basic_publish` takes messages one by one: a lock, two futures in two registries, a time limit and a wait for
the writer each, which costs more than all else a webhook needs. Here whatever came since the last write is the next
one, and its size is bounded, so that a broker that stops reading holds up messages here and not in the socket's buffer.

The numbering is aiormq's own (`delivery_tag`, `confirmations`): its reader settles our futures. So nobody else may
publish on the channel, not even by aio-pika's exchanges.
"""

import asyncio
from functools import lru_cache
from typing import Final

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
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
        self._answers: dict[str, asyncio.Future[object]] = {}
        self._unwritten: dict[str, bytes] = {}
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
        message_id = properties.message_id or ""
        until = self._loop.time() + limit
        if message_id in self._answers:
            await self._wait_for_namesake(message_id, until)
        if not self.is_open:
            raise ChannelLostError("the channel is closed")
        frames = self._frames(exchange, routing_key, properties, body, mandatory=mandatory)
        answer = self._answers[message_id] = self._loop.create_future()
        self._unwritten[message_id] = frames
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._write)
        await self._answered(message_id, answer, until)

    async def _answered(self, message_id: str, answer: asyncio.Future[object], until: float) -> None:
        task = asyncio.current_task()
        cancelling = 0 if task is None else task.cancelling()
        timer = self._loop.call_at(until, answer.cancel)  # as aiormq has it: a confirm that comes late is no warning
        try:
            await answer
        except asyncio.CancelledError:
            if task is not None and task.cancelling() > cancelling:
                raise
            raise TimeoutError from None
        finally:
            timer.cancel()
            self._unwritten.pop(message_id, None)  # never sent, then
            del self._answers[message_id]
            self.channel.message_id_delivery_tag.pop(message_id, None)

    async def _wait_for_namesake(self, message_id: str, until: float) -> None:
        """Wait until no message of this id is under way.

        A message that comes back is known by its id alone: of two, the wrong one would count as confirmed.
        """
        while (answer := self._answers.get(message_id)) is not None:
            left = until - self._loop.time()
            if left <= 0:
                raise TimeoutError
            await asyncio.wait([answer], timeout=left)
            await asyncio.sleep(0)  # whoever waits for it comes first

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
            message_id = next(iter(self._unwritten))
            frames, answer = self._unwritten.pop(message_id), self._answers[message_id]
            if answer.done():  # too late already
                continue
            channel.delivery_tag += 1
            channel.confirmations[channel.delivery_tag] = answer
            channel.message_id_delivery_tag[message_id] = channel.delivery_tag
            write.append(frames)
            size += len(frames)
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
        for answer in self._answers.values():
            if not answer.done():
                lost = ChannelLostError("the channel ended before RabbitMQ answered")
                lost.__cause__ = cause
                answer.set_exception(lost)


@lru_cache(maxsize=256)
def _method(number: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """Return the frame that begins a message."""
    return marshal(Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory), number)
