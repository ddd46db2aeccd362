"""Exclusive access to the queue of dead letters: one operator at a time, across all processes."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelLockedResource

from schemas.dead_letters import DeadLetterFilter
from worker.broker.connect_failure import NodesUnreachableError
from worker.broker.errors import BROKER_ERRORS, BrokerUnavailableError, error_text, translate_broker_errors
from worker.broker.nodes import Nodes, connect
from worker.dead_letters.browser import DeadLetterBrowser, count_waiting
from worker.dead_letters.summary import DeadLetterSummary, merge_items, summarize
from worker.settings import Settings

LOCK_QUEUE: Final = "outlast.dead.lock"
LOCK_WAIT_SECONDS: Final = 10.0
LOCK_RETRY_SECONDS: Final = 0.3


class BusyError(Exception):
    """Another operator held the lock for as long as we waited."""


class DeadLetterQueue:
    """The queue of dead letters in one virtual host."""

    def __init__(self, settings: Settings) -> None:
        self._nodes = Nodes.from_settings(settings)
        self._process_lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def open(self, wait_seconds: float | None = None) -> AsyncIterator[DeadLetterBrowser]:
        """Lock the queue and yield its browser. Messages that were not acked are back in the queue afterwards.

        Raises:
            BusyError: another operator held the lock for `wait_seconds` (default LOCK_WAIT_SECONDS).
            BrokerUnavailableError: the broker is not reachable, or the connection was lost; all unacked messages are
                back in the queue.
        """
        wait_seconds = LOCK_WAIT_SECONDS if wait_seconds is None else wait_seconds
        until = time.monotonic() + wait_seconds
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.enter_context(translate_broker_errors())
                await _acquire_in_process(self._process_lock, wait_seconds)
                stack.callback(self._process_lock.release)
                connection = await connect(self._nodes, "outlast dead letters")
                await stack.enter_async_context(connection)
                await _acquire_on_broker(connection, until)
                yield await stack.enter_async_context(_browse(connection))
        except NodesUnreachableError as error:
            raise BrokerUnavailableError(str(error)) from error
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(f"RabbitMQ: {error_text(error)}; check RABBITMQ_URL") from error

    async def find(
        self, filters: DeadLetterFilter, progress: Callable[[int, int], None] = lambda _done, _total: None
    ) -> list[DeadLetterSummary]:
        """Return all matching dead letters, of at most `filters.limit` items. The queue does not change.

        `progress` is called with the number of messages read so far, and the number of messages in the queue.

        Raises:
            BusyError, BrokerUnavailableError: as in `open`.
        """
        found: list[DeadLetterSummary] = []
        numbers = itertools.count(1)
        async with self.open() as browser:

            def collect(message: AbstractIncomingMessage) -> None:
                progress(next(numbers), browser.count)
                summary = summarize(message)
                if filters.matches(summary.item):
                    found.append(summary)

            async for _ in browser.windows(collect):
                continue
        if filters.limit is None:
            return found
        first = {item.id for item in merge_items(found)[: filters.limit]}
        return [summary for summary in found if summary.item.id in first]


async def _acquire_in_process(lock: asyncio.Lock, wait_seconds: float) -> None:
    """Wait for other operators in this process."""
    try:
        async with asyncio.timeout(wait_seconds):
            await lock.acquire()
    except TimeoutError:
        raise _busy() from None


async def _acquire_on_broker(connection: AbstractConnection, until: float) -> None:
    """Wait for other processes. The lock is an exclusive queue, which ends with the connection in every case."""
    while True:
        channel = await connection.channel()
        try:
            await channel.declare_queue(LOCK_QUEUE, exclusive=True, durable=False, auto_delete=False)
        except ChannelLockedResource:
            if time.monotonic() + LOCK_RETRY_SECONDS > until:
                raise _busy() from None
            await asyncio.sleep(LOCK_RETRY_SECONDS)
        else:
            return


@contextlib.asynccontextmanager
async def _browse(connection: AbstractConnection) -> AsyncIterator[DeadLetterBrowser]:
    publishing = await connection.channel(publisher_confirms=True, on_return_raises=True)
    reading = await connection.channel(publisher_confirms=False)
    try:
        count = await count_waiting(reading)
    except ChannelNotFoundEntity:  # the queue was never declared
        yield DeadLetterBrowser(reading, publishing, 0)
        return
    browser = DeadLetterBrowser(reading, publishing, count)
    try:
        yield browser
    finally:
        await browser.requeue_unacked()


def _busy() -> BusyError:
    return BusyError("another operator is using the dead letters; try again in a moment")
