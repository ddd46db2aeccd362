"""Shares a limited capacity among users: connections to a host, codec processes, disk space, a receiver's planning.

Users wait in turn, so one user's many or large files do not keep another user's file waiting.
"""

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

FIRST: Final = object()
"""Given instead of a user, it comes before all users."""


@dataclass(slots=True, eq=False)
class _Waiter:
    amount: int
    granted: asyncio.Future[None]


class Turns:
    """A capacity that files take parts of, in turn by user: after a file of one user comes a file of the next user.

    One user has at most `of_one_user` at once, except that a single larger part is granted while the user has nothing
    else. Files without a user (None) take turns like the files of one user, but have no such limit. Nothing is granted
    before the part whose turn is next, so a large part does not wait for ever. FIRST comes before all users. Use an
    instance from one event loop.
    """

    def __init__(self, capacity: int, of_one_user: int | None = None) -> None:
        self.capacity = capacity
        self.free = capacity
        self._of_one_user = capacity if of_one_user is None else of_one_user
        self._taken: Counter[object] = Counter()  # by user
        self._waiting: OrderedDict[object, deque[_Waiter]] = OrderedDict()  # by user, whose turn is next first

    @property
    def waiting(self) -> int:
        """The number of calls of `acquire` and `take` that wait."""
        return sum(map(len, self._waiting.values()))

    def are_waiting(self, number: int) -> bool:
        """Return whether at least `number` calls wait."""
        return self.waiting >= number

    @contextlib.asynccontextmanager
    async def take(self, user: object, amount: int = 1) -> AsyncIterator[None]:
        """Wait for a part of the capacity, and give it back when the context ends."""
        taken = await self.acquire(user, amount)
        try:
            yield
        finally:
            self.release(user, taken)

    async def acquire(self, user: object, amount: int = 1) -> int:
        """Wait for a part of the capacity; return its size, at most the whole capacity, to pass to `release`."""
        waiter = self._line_up(user, amount)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                self._forget(user, waiter)
                self._grant()
            else:
                self.release(user, waiter.amount)
            raise
        return waiter.amount

    def acquire_now(self, user: object, amount: int = 1) -> int:
        """Take a part of the capacity as `acquire` does, if it is there at once; return its size, or else 0."""
        waiter = self._line_up(user, amount)
        if waiter.granted.done():
            return waiter.amount
        self._forget(user, waiter)
        return 0

    def release(self, user: object, amount: int) -> None:
        """Give back a part of the capacity."""
        self.free += amount
        self._taken[user] -= amount
        if not self._taken[user]:
            del self._taken[user]
        self._grant()

    def _line_up(self, user: object, amount: int) -> _Waiter:
        """Add and return a waiter for a part of the capacity. It is granted already if the part is free and in turn."""
        waiter = _Waiter(min(amount, self.capacity), asyncio.get_running_loop().create_future())
        self._waiting.setdefault(user, deque()).append(waiter)
        if user is FIRST:
            self._waiting.move_to_end(FIRST, last=False)
        self._grant()
        return waiter

    def _grant(self) -> None:
        """Grant parts in order while there is capacity. A user who gets a part goes to the end of the order."""
        while (turn := self._next()) is not None and turn[1].amount <= self.free:
            user, waiter = turn
            self._forget(user, waiter)
            if waiter.granted.cancelled():  # the cancelled caller has not run since
                continue
            if user in self._waiting and user is not FIRST:
                self._waiting.move_to_end(user)
            self.free -= waiter.amount
            self._taken[user] += waiter.amount
            waiter.granted.set_result(None)

    def _next(self) -> tuple[object, _Waiter] | None:
        """Return the first user in the order whose limit allows the next part, and its waiter; or else None."""
        for user, waiters in self._waiting.items():
            taken = self._taken[user]
            if user is None or not taken or taken + waiters[0].amount <= self._of_one_user:
                return user, waiters[0]
        return None

    def _forget(self, user: object, waiter: _Waiter) -> None:
        """Remove a waiter, if it has not been removed before."""
        waiters = self._waiting.get(user, deque())
        with contextlib.suppress(ValueError):
            waiters.remove(waiter)
        if not waiters:
            self._waiting.pop(user, None)
