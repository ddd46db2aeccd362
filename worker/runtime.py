"""How a process of ours lives: on uvloop until a signal, listening on a port meanwhile."""

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import structlog
import uvloop
from aiohttp import web

from handlers.settings import SettingsError

log = structlog.stdlib.get_logger(__name__)
GC_THRESHOLDS: Final = (10_000, 10, 10)
"""How many new objects, and collections of younger ones, call for a collection; Python's own first figure is 700."""


def freeze_gc() -> None:
    """Keep the garbage collector from what is loaded by now, and from the short-lived objects of requests in flight.

    Else it takes a tenth of a busy receiver's time, since it walks through all modules and models again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on uvloop; SIGTERM and SIGINT set the event it is given, a second one ends it at once."""

    async def until_told() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def told() -> None:
            if stop.is_set():
                os._exit(1)
            stop.set()

        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, told)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_told())


@contextlib.asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[list[str]]:
    """Listen while the context lasts, on the addresses it yields; requests in flight are answered before it ends."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsError(
                f"{host}:{port} cannot be listened on ({error.strerror or error}). Remedy: set "
                "RECEIVER_HOST and RECEIVER_PORT, or for a worker METRICS_HOST and METRICS_PORT, to one that is free."
            ) from None
        addresses = [f"{host}:{bound[1]}" for bound in runner.addresses]
        log.info("listening", addresses=addresses)
        yield addresses
    finally:
        await runner.cleanup()


async def wait_first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of these ends; raise what it raised, cancel the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in done:
        task.result()
