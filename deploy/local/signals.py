"""Ending in order: the first signal cancels, further ones do not cut the clean-up short."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until_told(work: Coroutine[Any, Any, int], told: int) -> int:
    """Run `work` and return its exit code; on SIGINT, SIGTERM or SIGHUP cancel it, let it clean up, return `told`."""
    task, loop = asyncio.create_task(work), asyncio.get_running_loop()
    signalled = asyncio.Event()

    def end() -> None:
        if not signalled.is_set():
            signalled.set()
            task.cancel()

    # Where SIGHUP is ignored, as under nohup, we are meant to outlive the terminal.
    signs = [sign for sign in SIGNALS if sign != signal.SIGHUP or signal.getsignal(sign) != signal.SIG_IGN]
    for sign in signs:
        loop.add_signal_handler(sign, end)
    try:
        return await task
    except asyncio.CancelledError:
        if signalled.is_set():
            return told
        raise
    finally:
        for sign in signs:
            loop.remove_signal_handler(sign)
