"""Orderly shutdown: the first signal cancels the work, and further signals do not interrupt the clean-up."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_until_signal(work: Coroutine[Any, Any, int], exit_code: int) -> int:
    """Run `work` and return its exit code. SIGINT, SIGTERM or SIGHUP cancels it; then the result is `exit_code`."""
    task, loop = asyncio.create_task(work), asyncio.get_running_loop()
    signalled = asyncio.Event()

    def end() -> None:
        if not signalled.is_set():
            signalled.set()
            task.cancel()

    # Under nohup SIGHUP is ignored, because the process is meant to keep running when the terminal closes.
    handled = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    for number in handled:
        loop.add_signal_handler(number, end)
    try:
        return await task
    except asyncio.CancelledError:
        if signalled.is_set():
            return exit_code
        raise
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
