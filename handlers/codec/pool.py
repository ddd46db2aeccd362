"""A pool of processes, each started when it is first needed and replaced when it ends.

A thread waits for each that has something to do. They share nothing with each other, so that one that ends, however
and whenever, costs what it was doing and nothing else; a call that it had not begun is begun again by another, and so
is one that it had begun when the server of them all was killed.

Of our own, because pebble's processes share two pipes and their locks: one that is killed at the wrong moment breaks
the pool with every file in it. Over Python's fork server it also takes 19 MiB more (a tracker for those locks, pages
that are not shared) and four of CPython's private names, since that server hands `__main__` on and outlives its caller
for as long as a decoder is busy. Both were tried; a file costs the same processor time either way.
"""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Generic, TypeVar

from handlers.codec.fork_server import ForkServer
from handlers.codec.process import EndedError, Forked
from handlers.codec.request import Answer, Request

T = TypeVar("T")

TRIES: Final = 3
"""How often a call is begun again for what is not its fault; processes that were killed while idle do not count."""


class ClosedError(Exception):
    """The pool was closed before the call ended."""


class Processes:
    """Sends requests to at most `most` processes; each gets `start` first, and ends after `tasks` requests more.

    `waiting` holds the calls that have not ended, `busy` the processes that are at work.
    """

    def __init__(self, start: Request[Any], most: int, tasks: int, seconds: float) -> None:
        self.waiting: set[Future[Any]] = set()
        self.busy: set[Forked] = set()
        self._start, self._most, self._tasks, self._seconds = start, most, tasks, seconds
        self._idle: list[Forked] = []
        self._threads: ThreadPoolExecutor | None = None
        self._server: ForkServer | None = None
        self._lock = threading.Lock()
        self._closings = 0

    @property
    def has_started(self) -> bool:
        """Whether it was used since it was made or closed."""
        return self._threads is not None

    async def run(self, request: Request[T]) -> tuple[int, Answer[T]]:
        """Send the request to a process; return the process' id and the answer.

        Cancelling the call ends that process.

        Raises:
            TimeoutError: it took longer than `seconds`; its process was ended.
            InvalidAnswerError: its process sent something that is no answer, and was ended.
            EndedError: its process died.
            ClosedError: the pool was closed.
        """
        call = _PoolCall(request)
        with self._lock:
            self._threads = self._threads or ThreadPoolExecutor(self._most, "codec")
            future = self._threads.submit(self._run, call, self._closings)
            self.waiting.add(future)
        future.add_done_callback(self.waiting.discard)
        try:
            return await asyncio.wrap_future(future)
        finally:
            call.cancel()  # does nothing to one that is done

    async def aclose(self) -> None:
        """End the processes, also busy ones, whose callers get ClosedError. All may be used again."""
        await asyncio.to_thread(self._close)

    def _run(self, call: "_PoolCall[T]", closings: int) -> tuple[int, Answer[T]]:
        """Have a process answer the call, in a thread of the pool."""
        tries = 0
        while True:
            process = None
            try:
                process = self._taken(closings)
                return process.pid, self._answer(call, process, closings)
            except EndedError as error:
                if closings != self._closings:
                    raise ClosedError("the codec was closed") from None
                tries += error.has_begun or process is None or process.is_new
                if error.is_its_own or call.is_cancelled or tries == TRIES:
                    raise

    def _answer(self, call: "_PoolCall[T]", process: Forked, closings: int) -> Answer[T]:
        """Send the call to a process; keep the process for others only if it answered."""
        is_fit = False
        call.given_to(process)
        try:
            answer = process.call(call.request, self._seconds)
            is_fit = not self._tasks or process.answers <= self._tasks  # besides `start`
            return answer
        finally:
            call.given_to(None)
            self._put_back(process, closings, is_fit=is_fit)

    def _taken(self, closings: int) -> Forked:
        """Return a process that is idle, or else a new one."""
        while True:
            with self._lock:
                if closings != self._closings:
                    raise ClosedError("the codec was closed")
                process = self._idle.pop() if self._idle else None
                server = self._server = self._server if self._server and self._server.lives else ForkServer()
            process = process or server.fork(self._start)
            if process.is_usable:
                with self._lock:
                    self.busy.add(process)
                return process
            process.end()

    def _put_back(self, process: Forked, closings: int, *, is_fit: bool) -> None:
        with self._lock:
            self.busy.discard(process)
            if is_fit and closings == self._closings:
                self._idle.append(process)
                return
        process.end()

    def _close(self) -> None:
        with self._lock:
            self._closings += 1
            server, self._server = self._server, None
            threads, self._threads = self._threads, None
            idle, self._idle = self._idle, []
        if server is not None:
            server.close()  # and with it all processes; they may write until then
        for process in idle:
            process.end()
        if threads is not None:
            threads.shutdown()


class _PoolCall(Generic[T]):
    """A request, and the process that has it; cancelling the call ends that process."""

    def __init__(self, request: Request[T]) -> None:
        self.request = request
        self.is_cancelled = False
        self._lock = threading.Lock()
        self._process: Forked | None = None

    def given_to(self, process: Forked | None) -> None:
        """Note which process has it now."""
        with self._lock:
            self._process = process
        if self.is_cancelled:
            self.cancel()

    def cancel(self) -> None:
        """End the process that has it, now or later."""
        self.is_cancelled = True
        with self._lock:
            if self._process is not None:
                self._process.kill()
