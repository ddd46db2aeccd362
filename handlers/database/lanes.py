"""Counts requests that are under way, each for a limited time."""

import asyncio
from collections.abc import Callable


class Lanes:
    """The requests of the last `seconds` that have no answer yet; `len(lanes)` is their number.

    `on_free` is called whenever one of them has its answer, or is too old to count.
    """

    def __init__(self, seconds: float, on_free: Callable[[], None]) -> None:
        self._seconds = seconds
        self._on_free = on_free
        self._timers: dict[object, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def take(self) -> object:
        """Count a request; return its lane."""
        lane = object()
        self._timers[lane] = asyncio.get_running_loop().call_later(self._seconds, self.free, lane)
        return lane

    def free(self, lane: object) -> None:
        """Count the request no more. A lane can be freed twice."""
        timer = self._timers.pop(lane, None)
        if timer is not None:
            timer.cancel()
            self._on_free()
