"""Counts the requests that have no answer yet. Each request is counted for a limited time."""

import asyncio
from collections.abc import Callable


class PendingRequests:
    """The requests that began in the last `seconds` and have no answer yet; `len()` returns their number.

    `on_end` is called whenever a request is no longer counted, because it was answered or is too old.
    """

    def __init__(self, seconds: float, on_end: Callable[[], None]) -> None:
        self._seconds = seconds
        self._on_end = on_end
        self._timers: dict[object, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def begin(self) -> object:
        """Count a request from now on; return a token to pass to `end`."""
        request = object()
        self._timers[request] = asyncio.get_running_loop().call_later(self._seconds, self.end, request)
        return request

    def end(self, request: object) -> None:
        """Stop counting a request, if it is still counted."""
        timer = self._timers.pop(request, None)
        if timer is not None:
            timer.cancel()
            self._on_end()
