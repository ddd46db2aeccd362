"""The dead letters as last read, so that no page waits until thousands of messages have been read."""

import asyncio
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog
from aiohttp import web

from schemas.dead_letters import DeadLetter, DeadLetterFilter
from worker.broker.connection import Broker
from worker.broker.errors import BROKER_ERRORS, translate_broker_errors
from worker.broker.topology import DEAD
from worker.console.dead_letters.problems import REPLAY_PROBLEMS
from worker.console.dead_letters.snapshot import LIVE_SECONDS, DeadLetterSnapshot
from worker.dead_letters.service import DeadLetterService
from worker.dead_letters.summary import merge_items
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
WAIT_SECONDS: Final = 0.04
"""How long a page waits for the list. A few dozen messages are read in this time."""
LIVE_WAIT_SECONDS: Final = 0.5
"""How long an update of a page that is already shown waits for the list."""
MAX_AGE_SECONDS: Final = 10.0
LIVE_MAX_AGE_SECONDS: Final = 60.0
COUNT_SECONDS: Final = 1.0


class DeadLetterCache:
    """The list as last read. It is read again if the number of messages has changed or it is older than ten seconds.

    Reading ten thousand messages takes about two seconds, and other operators wait meanwhile. Counting is cheap.
    """

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self._service, self._broker = DeadLetterService(settings, "console"), broker
        self._can_refresh = settings.fal_key is not None
        self._items: Sequence[DeadLetter] = ()
        self._messages: Sequence[DeadLetter] = ()
        self._began_at: datetime | None = None
        self._read_at = -math.inf
        self._progress: tuple[int, int] | None = None
        self._problem = ""
        self._reading: asyncio.Task[None] | None = None
        self._was_complete = False  # when the reading began

    async def latest(self, *, live: bool = False) -> DeadLetterSnapshot:
        """Return the list as last read, and read it again in the background if that is due.

        `live` is for updates of a page that is already shown. A list with as many messages as the queue is read again
        when it is MAX_AGE_SECONDS old, with `live` LIVE_MAX_AGE_SECONDS; any other list at once, with `live` when it is
        LIVE_SECONDS old. If the list is not complete, wait for the reading, at most WAIT_SECONDS or LIVE_WAIT_SECONDS.
        Raises BusyError or BrokerUnavailableError if the list was never read and cannot be read; not with `live`.
        """
        age = time.monotonic() - self._read_at
        if live and age < LIVE_SECONDS and not self._is_reading():
            return self._snapshot(complete=False)
        complete = age < LIVE_MAX_AGE_SECONDS and await self._is_complete()
        if complete and (live or age < MAX_AGE_SECONDS):
            return self._snapshot(complete=True)
        reading = self._reading
        if reading is None or reading.done():
            self._was_complete, self._progress = complete, None
            reading = self._reading = asyncio.create_task(self._read(), name="dead letters")
            reading.add_done_callback(_log_error)
        if not complete:
            await asyncio.wait([reading], timeout=LIVE_WAIT_SECONDS if live else WAIT_SECONDS)
            complete = reading.done() and not self._problem
            if reading.done() and self._began_at is None and not live:
                reading.result()
        return self._snapshot(complete=complete)

    async def aclose(self, _app: web.Application) -> None:
        """End the reading, if there is one. All messages are back in the queue afterwards."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _snapshot(self, *, complete: bool) -> DeadLetterSnapshot:
        return DeadLetterSnapshot(
            items=self._items,
            messages=self._messages,
            began_at=self._began_at,
            age=time.monotonic() - self._read_at,
            complete=complete,
            progress=self._progress if self._is_reading() else None,
            problem=self._problem,
        )

    def _is_reading(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def _read(self) -> None:
        began_at = datetime.now(UTC)
        try:
            summaries = await self._service.find(DeadLetterFilter(), self._set_progress)
        except Exception as error:
            self._problem = _reason(error)
            raise
        self._items, self._messages = merge_items(summaries), [summary.item for summary in summaries]
        self._began_at, self._read_at, self._problem = began_at, time.monotonic(), ""

    def _set_progress(self, done: int, total: int) -> None:
        self._progress = done, total

    async def _is_complete(self) -> bool:
        """Whether the queue has as many messages as the list.

        RabbitMQ does not count messages that are being read, so during a reading return the result from before it.
        """
        if self._is_reading():
            return self._was_complete
        try:
            with translate_broker_errors():
                async with asyncio.timeout(COUNT_SECONDS):
                    return await self._count_waiting() == len(self._messages)
        except BROKER_ERRORS:
            return False

    async def _count_waiting(self) -> int | None:
        channel = await self._broker.channel()
        try:
            return (await channel.declare_queue(DEAD, passive=True)).declaration_result.message_count
        finally:
            await channel.close()

    def replay_problem(self, code: str) -> str | None:
        """Return why a replay of dead letters with this code is expected to fail; None if it may succeed."""
        if code == "source_gone" and not self._can_refresh:
            return "the source deleted the file, and without FAL_KEY no new link can be requested"
        return REPLAY_PROBLEMS.get(code)


def _log_error(reading: asyncio.Task[None]) -> None:
    """Log the error of a read that no request waits for any more."""
    if not reading.cancelled() and (error := reading.exception()) is not None:
        log.warning("dead letters not read", reason=_reason(error))


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
