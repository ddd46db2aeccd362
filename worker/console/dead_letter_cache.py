"""What lies among the dead letters, as last seen: a page must not wait for a replay that has its turn at the queue."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from schemas.dead_letters import DeadLetter, DeadLetterFilter
from worker.broker.connection import BROKER_ERRORS, Broker, translate_broker_errors
from worker.broker.topology import DEAD
from worker.dead_letters.service import DeadLetterService
from worker.dead_letters.summary import united
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
PATIENCE_SECONDS: Final = 1.5
BUSY_SECONDS: Final = 0.05
YOUNG_SECONDS: Final = 10.0
COUNT_SECONDS: Final = 1.0
BARS: Final = 24
REMEDIES: Final = {
    "corrupted": "the file is broken at its source: it fails again unless it was put out anew",
    "type_not_supported": "its type is not taken: it fails again",
    "size_exceeded": "it is too large: raise MAX_FILE_SIZE_MB first",
    "decoder_limit": "it takes too much to decode: raise MAX_IMAGE_PIXELS first",
    "source_forbidden": "its host is not allowed: add it to SOURCE_ALLOWLIST first",
    "undecodable": "this version cannot read it",
    "newer_version": "a newer version wrote it: update the workers first",
}


class Snapshot:
    """The items as last read: again while their number has not changed, older while somebody else is at the queue.

    To read them all takes a second for some ten thousand, and others have to wait meanwhile; to count them is cheap.
    """

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self._desk, self._broker = DeadLetterService(settings, "console"), broker
        self._can_refresh = settings.fal_key is not None
        self._items: list[DeadLetter] = []
        self._count = 0
        self._taken: float | None = None
        self._taking: asyncio.Task[None] | None = None

    async def items(self, *, busy: bool) -> tuple[list[DeadLetter], float]:
        """Return all items, the oldest failure first, and how old the list is in seconds.

        While the letters are `busy`, as an operation on them is, the list as it was comes at once.
        Raises BusyError or BrokerUnavailableError when none was ever read.
        """
        if await self._holds():
            return self._items, 0.0
        if self._taking is None or self._taking.done():
            self._taking = asyncio.create_task(self._take(), name="dead letters")
            self._taking.add_done_callback(_seen)
        patience = None if self._taken is None else BUSY_SECONDS if busy else PATIENCE_SECONDS
        done, _ = await asyncio.wait([self._taking], timeout=patience)
        if done and self._taken is None:
            self._taking.result()
        return self._items, time.monotonic() - (self._taken or 0.0)

    async def _take(self) -> None:
        letters = await self._desk.find(DeadLetterFilter())
        self._items, self._count, self._taken = united(letters), len(letters), time.monotonic()

    async def _holds(self) -> bool:
        """Whether the list is young, and there are as many letters as when it was read."""
        if self._taken is None or time.monotonic() - self._taken > YOUNG_SECONDS:
            return False
        try:
            with translate_broker_errors():
                async with asyncio.timeout(COUNT_SECONDS):
                    return await self._lying() == self._count
        except BROKER_ERRORS:
            return False

    async def _lying(self) -> int | None:
        channel = await self._broker.channel()
        try:
            return (await channel.declare_queue(DEAD, passive=True)).declaration_result.message_count
        finally:
            await channel.close()

    def trouble(self, code: str) -> str | None:
        """Say why a letter with this code fails again as things are; None when it may succeed."""
        if code == "source_gone" and not self._can_refresh:
            return "its source is gone, and without FAL_KEY nobody can be asked for it again"
        return REMEDIES.get(code)


def _seen(taking: asyncio.Task[None]) -> None:
    """Look at how a reading ended, for nobody may be left who does."""
    if not taking.cancelled() and (error := taking.exception()) is not None:
        log.warning("the dead letters could not be read", reason=str(error) or type(error).__name__)


@dataclass(frozen=True, slots=True)
class Bars:
    """Counts in equal slices of one stretch of time, by group: what fails now is told from what failed then."""

    first: datetime | None
    last: datetime | None
    of: dict[str, list[int]]


def bars(times: Iterable[tuple[str, datetime | None]]) -> Bars:
    """Count each group's times from the first to the last of all."""
    known = [(about, at) for about, at in times if at is not None]
    first = min((at for _, at in known), default=None)
    last = max((at for _, at in known), default=None)
    found: dict[str, list[int]] = {}
    for about, at in known:
        span = max((last - first).total_seconds(), 1.0) if first and last else 1.0
        place = int((at - first).total_seconds() / span * BARS) if first else 0
        found.setdefault(about, [0] * BARS)[min(BARS - 1, place)] += 1
    return Bars(first, last, found)
