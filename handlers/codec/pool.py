"""A pool of codec processes, each started when it is needed and replaced when it ends.

A thread waits for each busy process. The processes share nothing, so the end of one never affects another. A request
that its process had not started is sent to another process. So is one that had started when the fork server, and with
it all processes, was killed.

Two alternatives were measured; a file takes the same processor time in all three. The processes of pebble share two
pipes and their locks: one that is killed at the wrong moment breaks the pool with all its files. With Python's own
`forkserver` the pool needs 19 MiB more (a tracker for those locks, and unshared pages) and must use four private names
of CPython, because that server runs `__main__` and outlives its caller while a decoder is busy.
"""

import asyncio
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from handlers.codec.fork_server import ForkServer
from handlers.codec.process import CodecProcess, ProcessEndedError
from handlers.codec.request import Answer, Request

T = TypeVar("T")

MAX_TRIES: Final = 3
"""How many processes may end before they answer a request, not because of it, until it fails.

A process that had answered other requests, and ended before it started this one, does not count.
"""


class PoolClosedError(Exception):
    """The pool was closed before the request was answered."""


class ProcessPool:
    """Sends requests to at most `size` processes. Each gets `start` first, and ends after `tasks` more (0: no maximum).

    `waiting` holds the unanswered requests; `busy` holds the processes that work on one. The folders of the processes
    are in `temp_dir` (default: the system's).
    """

    def __init__(
        self, start: Request[Any], *, size: int, tasks: int, seconds: float, temp_dir: Path | None = None
    ) -> None:
        self.waiting: set[Future[Any]] = set()
        self.busy: set[CodecProcess] = set()
        self._start, self._size, self._tasks, self._seconds = start, size, tasks, seconds
        self._temp_dir = temp_dir or Path(tempfile.gettempdir())
        self._idle: list[CodecProcess] = []
        self._threads: ThreadPoolExecutor | None = None
        self._server: ForkServer | None = None
        self._lock = threading.Lock()
        self._closings = 0

    @property
    def has_started(self) -> bool:
        """Whether the pool was used since it was created or last closed."""
        return self._threads is not None

    async def run(self, request: Request[T]) -> tuple[int, Answer[T]]:
        """Send the request to a process; return the process id and the answer. Cancelling this call ends that process.

        Raises:
            TimeoutError: the answer took longer than `seconds`; the process was ended.
            InvalidAnswerError: the process sent an invalid answer, and was ended.
            ProcessEndedError: the process ended before it answered, or none could be started.
            FileProcessingError: a file could not be passed to the process, or the result not taken from it.
            PoolClosedError: the pool was closed.
        """
        call = _PoolCall(request)
        with self._lock:
            self._threads = self._threads or ThreadPoolExecutor(self._size, "codec")
            future = self._threads.submit(self._run, call, self._closings)
            self.waiting.add(future)
        future.add_done_callback(self.waiting.discard)
        try:
            return await asyncio.wrap_future(future)
        finally:
            call.cancel()  # no effect if the call is done

    async def aclose(self) -> None:
        """End all processes; callers of busy ones get PoolClosedError. The pool may be used again."""
        await asyncio.to_thread(self._close)

    def _run(self, call: "_PoolCall[T]", closings: int) -> tuple[int, Answer[T]]:
        """Get an answer for the call, in a thread of the pool."""
        tries = 0
        while True:
            process = None
            try:
                process = self._take_process(closings)
                return process.pid, self._call_process(call, process, closings)
            except ProcessEndedError as error:
                if closings != self._closings:
                    raise PoolClosedError("the codec was closed") from None
                tries += error.has_started or process is None or process.is_new
                if error.may_be_caused_by_request or call.is_cancelled or tries == MAX_TRIES:
                    raise

    def _call_process(self, call: "_PoolCall[T]", process: CodecProcess, closings: int) -> Answer[T]:
        """Send the call to a process; return the process to the pool only if it answered."""
        is_reusable = False
        call.set_process(process)
        try:
            answer = process.call(call.request, self._seconds)
            is_reusable = not self._tasks or process.answers <= self._tasks  # `start` is not counted
            return answer
        finally:
            call.set_process(None)
            self._return_process(process, closings, is_reusable=is_reusable)

    def _take_process(self, closings: int) -> CodecProcess:
        """Return an idle process, or else a new one."""
        while True:
            with self._lock:
                if closings != self._closings:
                    raise PoolClosedError("the codec was closed")
                process = self._idle.pop() if self._idle else None
                if self._server is None or not self._server.is_running:
                    self._server = ForkServer(self._temp_dir)
                server = self._server
            process = process or server.fork(self._start)
            if process.is_usable:
                with self._lock:
                    self.busy.add(process)
                return process
            process.end()

    def _return_process(self, process: CodecProcess, closings: int, *, is_reusable: bool) -> None:
        with self._lock:
            self.busy.discard(process)
            if is_reusable and closings == self._closings:
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
            server.close()  # this ends all processes; until then they may write files
        for process in idle:
            process.end()
        if threads is not None:
            threads.shutdown()


class _PoolCall(Generic[T]):
    """A request and the process that works on it; cancelling the call kills that process."""

    def __init__(self, request: Request[T]) -> None:
        self.request = request
        self.is_cancelled = False
        self._lock = threading.Lock()
        self._process: CodecProcess | None = None

    def set_process(self, process: CodecProcess | None) -> None:
        """Set the process that works on the request; kill it if the call is cancelled already."""
        with self._lock:
            self._process = process
        if self.is_cancelled:
            self.cancel()

    def cancel(self) -> None:
        """Kill the process that works on the request, now or when it is set."""
        self.is_cancelled = True
        with self._lock:
            if self._process is not None:
                self._process.kill()
