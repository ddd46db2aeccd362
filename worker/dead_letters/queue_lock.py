"""The way to the dead letters: one operator at a time, whoever and wherever they are."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelLockedResource

from schemas.dead_letters import DeadLetterFilter
from worker.broker.connect_failure import NodesUnreachableError
from worker.broker.connection import BROKER_ERRORS, BrokerUnavailableError, translate_broker_errors
from worker.broker.nodes import Nodes, connect
from worker.dead_letters.browser import DeadLetterBrowser, lying
from worker.dead_letters.summary import DeadLetterMessage, read, united
from worker.settings import Settings

LOCK: Final = "outlast.dead.lock"
PATIENCE_SECONDS: Final = 10.0
KNOCK_SECONDS: Final = 0.3


class BusyError(Exception):
    """Somebody else is at the dead letters, and stayed there for as long as we waited."""


class DeadLetters:
    """The way to the dead letters of one virtual host."""

    def __init__(self, settings: Settings) -> None:
        self._nodes = Nodes.of(settings)
        self._ours = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def open(self, patience: float | None = None) -> AsyncIterator[DeadLetterBrowser]:
        """Have the dead letters to oneself.

        Raises:
            BusyError: somebody else had them for `patience` seconds (default PATIENCE_SECONDS).
            BrokerUnavailableError: the broker was not reached, or was lost meanwhile; it has all letters back.
        """
        patience = PATIENCE_SECONDS if patience is None else patience
        until = time.monotonic() + patience
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.enter_context(translate_broker_errors())
                await _ours(self._ours, patience)
                stack.callback(self._ours.release)
                connection = await connect(self._nodes, "outlast dead letters")
                await stack.enter_async_context(connection)
                await _lock(connection, until)
                yield await stack.enter_async_context(_pile(connection))
        except NodesUnreachableError as error:
            raise BrokerUnavailableError(str(error)) from error
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(f"{type(error).__name__}: {error}; check RABBITMQ_URL") from error

    async def find(self, choice: DeadLetterFilter) -> list[DeadLetterMessage]:
        """Return every letter meant by `choice`, its limit included; where they lie nothing changes.

        Raises:
            BusyError, BrokerUnavailableError: as `open`.
        """
        found: list[DeadLetterMessage] = []

        def look(message: AbstractIncomingMessage) -> None:
            letter = read(message)
            if choice.takes(letter.item):
                found.append(letter)

        async with self.open() as pile:
            async for _ in pile.windows(look):
                continue
        if choice.limit is None:
            return found
        first = {item.id for item in united(found)[: choice.limit]}
        return [letter for letter in found if letter.item.id in first]


async def _ours(lock: asyncio.Lock, patience: float) -> None:
    """Wait for others in this process."""
    try:
        async with asyncio.timeout(patience):
            await lock.acquire()
    except TimeoutError:
        raise _busy() from None


async def _lock(connection: AbstractConnection, until: float) -> None:
    """Wait for others on this broker. The lock ends with the connection, whatever becomes of us."""
    while True:
        channel = await connection.channel()
        try:
            await channel.declare_queue(LOCK, exclusive=True, durable=False, auto_delete=False)
        except ChannelLockedResource:
            if time.monotonic() + KNOCK_SECONDS > until:
                raise _busy() from None
            await asyncio.sleep(KNOCK_SECONDS)
        else:
            return


@contextlib.asynccontextmanager
async def _pile(connection: AbstractConnection) -> AsyncIterator[DeadLetterBrowser]:
    publishing = await connection.channel(publisher_confirms=True, on_return_raises=True)
    reading = await connection.channel(publisher_confirms=False)
    try:
        count = await lying(reading)
    except ChannelNotFoundEntity:
        yield DeadLetterBrowser(reading, publishing, 0)
        return
    pile = DeadLetterBrowser(reading, publishing, count)
    try:
        yield pile
    finally:
        await pile.give_back()


def _busy() -> BusyError:
    return BusyError("another operator is at the dead letters; try again in a moment")
