"""Repeats a call after temporary errors, with stamina. The first call is made without stamina.

stamina takes 0.1 ms for each call, also when nothing fails, which is some 4% of the worker's time for a small file.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

import stamina

P = ParamSpec("P")
T = TypeVar("T")
FIRST_WAIT_SECONDS: Final = 0.2


class Retries:
    """Calls a coroutine function again while it raises an error for which `on(error)` is true.

    There are at most `attempts` calls (None: any number). No call begins more than about `timeout` seconds after the
    first failure (None: no limit). The waits between calls double, from some 0.2 s up to `wait_max` seconds.
    """

    def __init__(
        self, on: Callable[[Exception], bool], *, attempts: int | None, timeout: float | None, wait_max: float
    ) -> None:
        self._on = on
        further = None if attempts is None else attempts - 1
        wait = {"wait_initial": min(2 * FIRST_WAIT_SECONDS, wait_max), "wait_jitter": FIRST_WAIT_SECONDS}
        self._further = stamina.AsyncRetryingCaller(attempts=further, timeout=timeout, wait_max=wait_max, **wait).on(on)

    async def __call__(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of `function(*args, **kwargs)`, or raise the error of its last call."""
        try:
            return await function(*args, **kwargs)
        except Exception as error:
            if not self._on(error):
                raise
        await asyncio.sleep(FIRST_WAIT_SECONDS * random.uniform(0.5, 1))  # noqa: S311 - no secret
        return await self._further(function, *args, **kwargs)
