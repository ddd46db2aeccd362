"""A pool of processes that outlives its processes and its own breaking.

Pebble replaces a process that ends with a file in it, and tells that file's caller. But a process that ends while
pebble knows of no file in it (it was idle, or crashed so fast that its word of having begun is still on its way) breaks
the pool, and everything in it. Here such a pool is replaced, and what was in it is begun again: one crash costs one
file. Now and then a file is even forgotten in a breaking pool, so that whoever waits looks after the pool.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final

from pebble import ProcessPool

TRIES: Final = 3
"""How often a call is begun, when the pools it is in break: it may be what breaks them."""
LOOK_SECONDS: Final = 1.0


class Processes:
    """Runs functions in a pool that `start` makes, on first use and whenever the one before broke.

    `waiting` holds the calls that have not ended.
    """

    def __init__(self, start: Callable[[], ProcessPool], seconds: float) -> None:
        self.pool: ProcessPool | None = None
        self.waiting: set[Future[Any]] = set()
        self._start = start
        self._seconds = seconds
        self._beginning = threading.Lock()
        self._burying = threading.Lock()
        self._closings = 0

    async def run(self, function: Callable[..., Any], *args: object) -> Any:  # noqa: ANN401 - what `function` returns
        """Call `function` in a process; cancelling the call ends that process.

        Raises:
            TimeoutError: it took longer than `seconds`; its process was ended.
            ProcessExpired: its process died.
            BrokenExecutor: the pool was closed, or broke again and again.
        """
        closings, tries = self._closings, 0
        while True:
            pool, future = self._begin(function, *args)
            try:
                return await _answer(pool, future)
            except BrokenProcessPool:
                tries += 1
                if tries == TRIES or closings != self._closings:
                    raise
            await asyncio.to_thread(self._bury, pool)

    async def aclose(self) -> None:
        """End the processes, also busy ones, whose callers get BrokenExecutor. All may be used again."""
        self._closings += 1
        if self.pool is None:
            return
        waiting = list(self.waiting)
        await asyncio.to_thread(self._bury, self.pool)
        for future in waiting:  # what had not begun: the pool forgets it
            with contextlib.suppress(InvalidStateError):
                future.set_exception(BrokenExecutor("the codec was closed"))

    def _begin(self, function: Callable[..., Any], *args: object) -> "tuple[ProcessPool, Future[Any]]":
        with self._beginning:
            pool = self.pool = self.pool or self._start()
            future: Future[Any] = Future()
            try:
                future = pool.schedule(function, args=args, timeout=self._seconds)
            except RuntimeError as error:  # it broke, or is being closed
                future.set_exception(BrokenProcessPool(str(error)))
        self.waiting.add(future)
        future.add_done_callback(self.waiting.discard)
        return pool, future

    def _bury(self, pool: ProcessPool) -> None:
        """End the pool and wait for its processes, which may write yet; whoever comes second finds it done."""
        with self._burying:
            if self.pool is pool:
                pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves out the None
                pool.join()
                self.pool = None


async def _answer(pool: ProcessPool, future: "Future[Any]") -> Any:  # noqa: ANN401 - what was called returns
    answer = asyncio.wrap_future(future)
    try:
        while not (await asyncio.wait([answer], timeout=LOOK_SECONDS))[0]:
            if not pool.active:
                raise BrokenProcessPool("the pool broke without a word")
        return answer.result()
    finally:
        future.cancel()  # does nothing to one that is done
