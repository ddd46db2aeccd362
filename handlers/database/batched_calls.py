"""Calls SQL functions; sends calls together that would have to wait for others to end.

While fewer than LANES requests are under way, each call is a request of its own and waits for nothing. Otherwise it
waits for a lane, and then goes with waiting calls of the same function. A batch is one transaction, which holds the
locks of its calls until it ends. So of functions that lock, a batch has one call of each user, in the order of users:
then two batches cannot wait for each other. `20261130000010_outlast_many.sql` has the rest of the rules.
"""

import asyncio
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import structlog

from handlers.database.many import MANY, Undone, call_many
from handlers.database.rpc import RpcClient, to_json
from handlers.errors import DatabaseUnavailableError, FileProcessingError
from handlers.observer import Observer

log = structlog.stdlib.get_logger(__name__)
READING: Final = frozenset({"outlast_known"})
"""Functions that take no locks."""
LANES: Final = 8
BATCH_CALLS: Final = 16
"""A worker makes four calls for a file, so 800 a second for 200 small files, as many as two cores process. With a
database 80 ms away, 8 lanes of 16 calls are 1,600 calls a second, and a call waits some 80 / 8 = 10 ms for a lane."""
MAX_CALL_BYTES: Final = 64 * 1024
"""A larger call goes alone, so a batch has at most 1 MiB. Most calls have some 1.5 KB."""
LANE_SECONDS: Final = 0.25
"""A request that takes longer gives its lane to others, so that a few slow rows do not block all lanes."""
SLOW_SECONDS: Final = 1.0
ALONE_SECONDS: Final = 60.0
"""For how long the calls of a user go alone after one of them was slow, or failed in a batch."""


@dataclass(slots=True, eq=False)
class _Call:
    """A waiting call. `outcome` is its result, an error to raise, or an Undone."""

    function: str
    body: bytes
    user: str
    outcome: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def key(self) -> tuple[str, object]:
        """Two calls with the same key must not be in one batch."""
        return self.function, self if self.function in READING else self.user


class BatchedCalls:
    """Calls the functions that `outlast_many` knows. A database without it (version 0.1.0) gets single calls."""

    def __init__(self, rpc: RpcClient, observer: Observer) -> None:
        self._rpc = rpc
        self._observer = observer
        self._supported = True
        self._lanes: dict[object, asyncio.TimerHandle] = {}
        self._waiting: dict[tuple[str, object], _Call] = {}  # oldest first
        self._batches: set[asyncio.Task[None]] = set()
        self._alone_until: dict[str, float] = {}

    async def call(self, function: str, arguments: dict[str, Any], user: str | None) -> Any:  # noqa: ANN401 - any JSON
        """Return the function's result; raise what `RpcClient.call` raises.

        `user`: whose rows and objects the call locks. None: that is unknown, so a call that locks goes alone.
        """
        body = to_json(arguments)
        user = "" if user is None else user.rstrip().lower()  # as outlast_owns compares users
        if self._must_go_alone(function, body, user):
            return await self._send(function, body, user)
        if len(self._lanes) < LANES:
            lane = self._take_lane()
            try:
                return await self._send(function, body, user)
            finally:
                self._free(lane)
        outcome = await self._wait(_Call(function, body, user))
        if isinstance(outcome, FileProcessingError):
            raise outcome
        return await self._send(function, body, user) if isinstance(outcome, Undone) else outcome

    async def aclose(self) -> None:
        """End all batches. Calls that wait raise DatabaseUnavailableError."""
        waiting, self._waiting = list(self._waiting.values()), {}
        _settle(waiting, [_closed() for _ in waiting])
        for batch in self._batches:
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)

    def _must_go_alone(self, function: str, body: bytes, user: str) -> bool:
        """Return whether the call cannot be in a batch. It does not wait then, so a user's calls do not queue up."""
        if not self._supported or len(body) > MAX_CALL_BYTES:
            return True
        if function in READING:
            return False
        return not user or (function, user) in self._waiting or self._alone_until.get(user, 0) > time.monotonic()

    async def _send(self, function: str, body: bytes, user: str) -> Any:  # noqa: ANN401 - any JSON
        began = time.monotonic()
        self._observer.called(1)
        try:
            return await self._rpc.send(function, body)
        finally:
            if time.monotonic() - began > SLOW_SECONDS:
                self._note_slow(user)

    async def _wait(self, call: _Call) -> Any:  # noqa: ANN401 - any JSON
        self._waiting[call.key] = call
        try:
            return await call.outcome
        finally:
            if self._waiting.get(call.key) is call:  # the caller was cancelled
                del self._waiting[call.key]

    def _take_lane(self) -> object:
        lane = object()
        self._lanes[lane] = asyncio.get_running_loop().call_later(LANE_SECONDS, self._free, lane)
        return lane

    def _free(self, lane: object) -> None:
        """Free the lane, unless that is done, and send waiting calls, oldest first."""
        timer = self._lanes.pop(lane, None)
        if timer is not None:
            timer.cancel()
        while self._waiting and len(self._lanes) < LANES:
            batch = asyncio.create_task(self._process(self._next_batch(), self._take_lane()))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    def _next_batch(self) -> list[_Call]:
        """Take the oldest waiting call, and others of its function, in the order of users."""
        function = next(iter(self._waiting.values())).function
        calls = list(islice((call for call in self._waiting.values() if call.function == function), BATCH_CALLS))
        for call in calls:
            del self._waiting[call.key]
        return sorted(calls, key=lambda call: call.user)

    async def _process(self, calls: list[_Call], lane: object) -> None:
        outcomes: list[Any] = [_closed() for _ in calls]
        try:
            outcomes = await self._outcomes(calls)
        finally:
            self._free(lane)
            _settle(calls, outcomes)

    async def _outcomes(self, calls: list[_Call]) -> list[Any]:
        first = calls[0]
        if not self._supported:
            return [Undone.NOT_SUPPORTED] * len(calls)
        if len(calls) == 1:
            try:
                return [await self._send(first.function, first.body, first.user)]
            except FileProcessingError as error:
                return [error]
        self._observer.called(len(calls))
        outcomes = await call_many(self._rpc, first.function, [call.body for call in calls])
        for call, outcome, following in zip(calls, outcomes, [*outcomes[1:], None], strict=True):
            if outcome is Undone.FAILED or (following is Undone.NOT_MADE and outcome is not Undone.NOT_MADE):
                self._note_slow(call.user)
        if outcomes[0] is Undone.NOT_SUPPORTED and self._supported:
            self._supported = False
            log.warning("calls are sent one by one: apply the migrations (outlast init prints them)", function=MANY)
        return outcomes

    def _note_slow(self, user: str) -> None:
        now = time.monotonic()
        self._alone_until = {other: until for other, until in self._alone_until.items() if until > now}
        self._alone_until[user] = now + ALONE_SECONDS


def _settle(calls: list[_Call], outcomes: list[Any]) -> None:
    """Answer the calls, except those whose caller was cancelled."""
    for call, outcome in zip(calls, outcomes, strict=True):
        if not call.outcome.done():
            call.outcome.set_result(outcome)


def _closed() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the connection to Supabase was closed")
