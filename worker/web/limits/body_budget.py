"""A limit for the bytes of all request bodies that are in memory at the same time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

MIN_BYTES: Final = 64 * 1024
"""Minimum size that is counted for a body: one read from the socket may return this much for any Content-Length."""


class BudgetFullError(Exception):
    """There was no room for a body in time."""


class Reservation:
    """The room of one body. `reading` is the time limit of its reader while it arrives."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.reading: asyncio.Timeout | None = None
        self.evicted = False

    def evict(self) -> None:
        """End the reader, which then releases the room."""
        if self.reading is not None:
            self.evicted = True
            self.reading.reschedule(asyncio.get_running_loop().time())


class BodyBudget:
    """At most `capacity` bytes. A body for which there is no room waits for `wait_seconds`.

    With `evicts`, the body that has been arriving for the longest time is evicted at once. A valid small body arrives
    with its head or a moment later, so only slow senders are evicted.
    """

    def __init__(self, capacity: int, *, wait_seconds: float, max_waiting: int, evicts: bool = False) -> None:
        self._free = capacity
        self._wait_seconds = wait_seconds
        self._max_waiting = max_waiting
        self._evicts = evicts
        self._waiting = 0
        self._released = asyncio.Event()
        self._reservations: dict[Reservation, None] = {}  # the oldest first

    @contextlib.asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[Reservation]:
        """Reserve room while the context is entered. With size 0, for a body that has arrived already, never waits.

        Raises:
            BudgetFullError: no room became free in time, or too many wait.
        """
        reservation = Reservation(max(size, MIN_BYTES) if size else 0)
        if self._free < reservation.size:
            await self._wait_for_room(reservation.size)
        self._free -= reservation.size
        self._reservations[reservation] = None
        try:
            yield reservation
        finally:
            del self._reservations[reservation]
            self._free += reservation.size
            self._released.set()

    async def _wait_for_room(self, size: int) -> None:
        if self._waiting >= self._max_waiting:
            raise BudgetFullError
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                while self._free < size:
                    self._evict_oldest()
                    self._released.clear()
                    await self._released.wait()
        except TimeoutError:
            raise BudgetFullError from None
        finally:
            self._waiting -= 1

    def _evict_oldest(self) -> None:
        if self._evicts:
            arriving = (r for r in self._reservations if r.reading is not None and not r.evicted)
            if (oldest := next(arriving, None)) is not None:
                oldest.evict()
