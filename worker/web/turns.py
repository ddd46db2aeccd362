"""Lets one event at a time in. Users take turns, so that many events of one user wait behind one of another user."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class Turns:
    """A lock whose waiters are woken user by user, and in order of arrival for each user."""

    def __init__(self) -> None:
        self._taken = False
        self._first: deque[asyncio.Future[None]] = deque()
        self._waiting: dict[str | None, deque[asyncio.Future[None]]] = {}  # the user whose turn is next first

    @contextlib.asynccontextmanager
    async def first(self) -> AsyncIterator[None]:
        """Hold the lock while the context is entered, before all who wait in `of`."""
        if self._taken:
            await self._wait(self._first)
        async with self._hold():
            yield

    @contextlib.asynccontextmanager
    async def of(self, user_id: str | None) -> AsyncIterator[None]:
        """Hold the lock while the context is entered. Events without a user count as those of one user."""
        if self._taken:
            await self._wait(self._waiting.setdefault(user_id, deque()))
        async with self._hold():
            yield

    @contextlib.asynccontextmanager
    async def _hold(self) -> AsyncIterator[None]:
        self._taken = True
        try:
            yield
        finally:
            self._wake_next()

    async def _wait(self, waiters: deque[asyncio.Future[None]]) -> None:
        woken = asyncio.get_running_loop().create_future()
        waiters.append(woken)
        try:
            await woken
        except asyncio.CancelledError:
            if not woken.cancelled():  # it was woken, too
                self._wake_next()
            raise

    def _wake_next(self) -> None:
        """Wake the next waiter, to whom the lock passes, or release it."""
        while (woken := self._next()) is not None:
            if not woken.done():
                woken.set_result(None)
                return
        self._taken = False

    def _next(self) -> asyncio.Future[None] | None:
        """Take the next waiter out; None if nobody waits."""
        if self._first:
            return self._first.popleft()
        if not self._waiting:
            return None
        user_id = next(iter(self._waiting))
        waiting = self._waiting.pop(user_id)
        woken = waiting.popleft()
        if waiting:
            self._waiting[user_id] = waiting
        return woken
