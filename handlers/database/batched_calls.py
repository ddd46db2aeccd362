"""Calls SQL functions, several in one request while requests are pending or files wait for a codec process.

A batch is a call of `outlast_many`: one transaction, which holds the locks of its calls until it ends. So a batch of a
function that locks has at most one call of each user, sorted by user: then two batches cannot wait for each other.
`20261130000010_outlast_many.sql` explains the other rules.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog

from handlers.database.many import MANY, Undone, call_many
from handlers.database.pending_requests import PendingRequests
from handlers.database.rpc import RpcClient, to_json
from handlers.errors import DatabaseUnavailableError, FileProcessingError
from handlers.observer import Observer

log = structlog.stdlib.get_logger(__name__)
LOCK_FREE_FUNCTIONS: Final = frozenset({"outlast_known"})
"""The functions that take no locks."""
BATCH_FROM_PENDING: Final = 4
"""While fewer requests are pending, a call is sent at once, in a request of its own.

With eight, a worker that is busy near its database sends 1.5 calls in a request; with four 2.7, which takes 13% less
CPU of worker, REST API and PostgreSQL for a small file than single calls."""
WAIT_SECONDS: Final = 0.02
"""A call waits at most this long, and a request that takes longer no longer counts as pending. So with a database
80 ms away, where 64 jobs have some 40 calls under way, a call takes 20 ms more at most, and 2.2 go in a request."""
BUSY_WAIT_SECONDS: Final = 0.1
"""While files wait for a codec process, every call waits, at most this long. Then a file of the benchmarks has 0.6
requests to the database instead of 2.7, and PostgreSQL takes 0.4 to 0.9 ms less of 4. Jobs are not finished later on
average, because others wait less for the codec. With 0.2 seconds there are 0.55 requests."""
BATCH_CALLS: Final = 16
"""A batch with this many calls is sent at once, so calls per second are not limited. A call takes up to four
subtransactions, and PostgreSQL keeps 64 of a transaction where snapshots find them quickly."""
MAX_CALL_BYTES: Final = 64 * 1024
"""A larger call is sent alone, so a batch has at most 1 MiB. Most calls have some 1.5 KB."""
SLOW_SECONDS: Final = 1.0
"""A call that takes longer counts as slow."""
ALONE_SECONDS: Final = 60.0
"""For how long the calls of a user are sent alone after one of them was slow, or failed in a batch."""
UNSUPPORTED_SECONDS: Final = 60.0
"""For how long all calls are sent alone after the REST API did not know `outlast_many`. It learns of functions late."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call of a function for a user. `outcome` becomes the call's result, an error to raise, or an Undone."""

    function: str
    body: bytes
    user: str
    outcome: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def key(self) -> object:
        """Two calls with the same key must not be in one batch."""
        return self if self.function in LOCK_FREE_FUNCTIONS else self.user


@dataclass(slots=True, frozen=True)
class _Group:
    """The waiting calls of one function. `timer` sends them when the first has waited long enough."""

    timer: asyncio.TimerHandle
    calls: dict[object, _Call] = field(default_factory=dict)


class BatchedCalls:
    """Calls the functions that `outlast_many` knows. A database of version 0.1.0, without it, gets single calls.

    `is_busy` returns whether files wait for a codec process: then no call is sent at once.
    """

    def __init__(self, rpc: RpcClient, observer: Observer, is_busy: Callable[[], bool]) -> None:
        self._rpc = rpc
        self._is_busy = is_busy
        self._observer = observer
        self._supported_from = 0.0
        self._has_warned = False
        self._pending = PendingRequests(WAIT_SECONDS, self._send_if_idle)
        self._waiting: dict[str, _Group] = {}
        self._batches: set[asyncio.Task[None]] = set()
        self._alone_until: dict[str, float] = {}

    async def call(self, function: str, arguments: dict[str, Any], user: str | None) -> Any:  # noqa: ANN401 - any JSON
        """Return the function's result; raise what `RpcClient.call` raises.

        `user` is the user whose rows and objects the call locks. If the user is unknown (None), a call that locks is
        sent alone.
        """
        # Users are compared as in the SQL function outlast_owns.
        call = _Call(function, to_json(arguments), "" if user is None else user.rstrip().lower())
        if self._must_go_alone(call):
            return await self._send(call)
        if not self._waiting and len(self._pending) < BATCH_FROM_PENDING and not self._is_busy():
            request = self._pending.begin()
            try:
                return await self._send(call)
            finally:
                self._pending.end(request)
        outcome = await self._wait(call)
        if isinstance(outcome, FileProcessingError):
            raise outcome
        return await self._send(call) if isinstance(outcome, Undone) else outcome

    async def aclose(self) -> None:
        """End all batches. Calls that wait raise DatabaseUnavailableError."""
        while self._waiting:
            _, group = self._waiting.popitem()
            group.timer.cancel()
            _settle(list(group.calls.values()), [_closed() for _ in group.calls])
        for batch in self._batches:
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)

    def _must_go_alone(self, call: _Call) -> bool:
        """Return whether the call cannot be in a batch. Then it is sent at once, so a user's calls do not queue up."""
        if not self._is_supported() or len(call.body) > MAX_CALL_BYTES:
            return True
        if call.function in LOCK_FREE_FUNCTIONS:
            return False
        group = self._waiting.get(call.function)
        is_second = group is not None and call.user in group.calls
        return not call.user or is_second or self._alone_until.get(call.user, 0) > time.monotonic()

    async def _send(self, call: _Call) -> Any:  # noqa: ANN401 - any JSON
        began = time.monotonic()
        self._observer.called(1)
        try:
            return await self._rpc.send(call.function, call.body)
        finally:
            if time.monotonic() - began > SLOW_SECONDS:
                self._send_alone_from_now(call.user)

    async def _wait(self, call: _Call) -> Any:  # noqa: ANN401 - any JSON
        group = self._waiting.get(call.function)
        if group is None:
            seconds = BUSY_WAIT_SECONDS if self._is_busy() else WAIT_SECONDS
            timer = asyncio.get_running_loop().call_later(seconds, self._send_group, call.function)
            group = self._waiting[call.function] = _Group(timer)
        group.calls[call.key] = call
        if len(group.calls) == BATCH_CALLS:
            self._send_group(call.function)
        try:
            return await call.outcome
        except asyncio.CancelledError:
            group.calls.pop(call.key, None)
            raise

    def _send_if_idle(self) -> None:
        """Send the group of calls that has waited longest, if no request is pending."""
        while self._waiting and not self._pending and not self._is_busy():
            self._send_group(next(iter(self._waiting)))

    def _send_group(self, function: str) -> None:
        group = self._waiting.pop(function)
        group.timer.cancel()
        calls = sorted(group.calls.values(), key=lambda call: call.user)
        if calls:  # all callers may have been cancelled
            batch = asyncio.create_task(self._process(calls, self._pending.begin()))
            self._batches.add(batch)
            batch.add_done_callback(partial(self._end, calls))

    async def _process(self, calls: list[_Call], request: object) -> None:
        try:
            outcomes = await self._outcomes(calls)
        finally:
            self._pending.end(request)
        _settle(calls, outcomes)

    def _end(self, calls: list[_Call], batch: asyncio.Task[None]) -> None:
        """Forget a batch that has ended. Calls without an answer, because the batch was cancelled, get an error."""
        self._batches.discard(batch)
        _settle(calls, [_closed() for _ in calls])

    async def _outcomes(self, calls: list[_Call]) -> list[Any]:
        if not self._is_supported():
            return [Undone.NOT_SUPPORTED] * len(calls)
        if len(calls) == 1:
            try:
                return [await self._send(calls[0])]
            except FileProcessingError as error:
                return [error]
        self._observer.called(len(calls))
        outcomes = await call_many(self._rpc, calls[0].function, [call.body for call in calls])
        for call, outcome, following in zip(calls, outcomes, [*outcomes[1:], None], strict=True):
            if outcome is Undone.FAILED or (following is Undone.NOT_MADE and outcome is not Undone.NOT_MADE):
                self._send_alone_from_now(call.user)
        if outcomes[0] is Undone.NOT_SUPPORTED:
            self._note_unsupported()
        return outcomes

    def _is_supported(self) -> bool:
        return self._supported_from <= time.monotonic()

    def _note_unsupported(self) -> None:
        self._supported_from = time.monotonic() + UNSUPPORTED_SECONDS
        if not self._has_warned:
            self._has_warned = True
            log.warning("calls are sent one by one: apply the migrations (outlast init prints them)", function=MANY)

    def _send_alone_from_now(self, user: str) -> None:
        now = time.monotonic()
        self._alone_until = {other: until for other, until in self._alone_until.items() if until > now}
        self._alone_until[user] = now + ALONE_SECONDS


def _settle(calls: list[_Call], outcomes: list[Any]) -> None:
    """Set the outcomes of the calls, except of those that have one or whose caller was cancelled."""
    for call, outcome in zip(calls, outcomes, strict=True):
        if not call.outcome.done():
            call.outcome.set_result(outcome)


def _closed() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the connection to Supabase was closed")
