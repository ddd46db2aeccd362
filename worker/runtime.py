"""Running a process: the event loop, signals, garbage collection, an HTTP server."""

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import structlog
import uvloop
from aiohttp import web

from handlers.settings import SettingsError
from worker.web.limits.connections import LINGER_SECONDS, MAX_CONNECTIONS, Connections
from worker.web.server_log import ServerLog

log = structlog.stdlib.get_logger(__name__)
GC_THRESHOLDS: Final = (10_000, 10, 10)
"""Arguments of `gc.set_threshold`. Python's default for the first is 700 new objects (2000 from 3.13 on)."""
ALL_ADDRESSES: Final = "::"
ALL_IPV4: Final = "0.0.0.0"  # noqa: S104 - the operator asked for it

M_MMAP_THRESHOLD: Final = -3
"""An option of glibc's `mallopt`: a block of this size or more has a mapping of its own."""
M_ARENA_MAX: Final = -8
"""An option of glibc's `mallopt`: how many heaps there are at most."""
MAPPED_BYTES: Final = 128 * 1024
"""glibc's default, which grows up to 32 MiB unless it is set. Freed memory of smaller blocks is returned late."""
SHUTDOWN_SECONDS: Final = 5
READ_BUFFER_BYTES: Final = 64 * 1024
"""aiohttp buffers twice this much of a body that is not read yet, plus the bytes of one read from the socket."""


def freeze_gc() -> None:
    """Exclude the loaded modules from garbage collection, and collect less often.

    With Python's defaults, collections take a tenth of a busy receiver's time: each one scans all modules and models.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def return_freed_memory() -> None:
    """Give the memory of blocks of MAPPED_BYTES or more, such as bodies, back to the system as soon as they are freed.

    With it, a receiver keeps 12 MiB instead of 41 after two bodies of 4 MB. Does nothing without glibc.
    """
    _set_malloc_option(M_MMAP_THRESHOLD, MAPPED_BYTES)


def share_one_heap() -> None:
    """Let all threads allocate from one heap. Call it before the first thread starts.

    glibc gives each thread a heap of its own, and each keeps freed memory: 9 MiB more in a busy worker, and no faster.
    Does nothing where the C library is not glibc.
    """
    _set_malloc_option(M_ARENA_MAX, 1)


def _set_malloc_option(option: int, value: int) -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(option, value)


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on uvloop. SIGTERM and SIGINT set the event passed to `main`; a second signal exits with code 1."""

    async def run_until_signal() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def on_signal() -> None:
            if stop.is_set():
                os._exit(1)
            stop.set()

        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, on_signal)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_until_signal())


def stop_on_signals() -> asyncio.Event:
    """Return an event that Ctrl-C and SIGTERM set, to stop after the current item. The same again stops at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(sign: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(sign)

    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, on_signal, sign)
    return stop


def listen_addresses(host: str) -> list[str]:
    """Return the addresses to listen on. `::` means all addresses of IPv6 and of IPv4.

    The event loop makes sockets for IPv6 that accept no IPv4, so each family needs an address of its own.
    """
    return [ALL_IPV4, ALL_ADDRESSES] if host == ALL_ADDRESSES else [host]


@contextlib.asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[list[str]]:
    """Serve `app` until the context ends; yield its addresses as host:port.

    At the end, requests in process have SHUTDOWN_SECONDS to be answered; then they are cancelled.

    Raises:
        SettingsError: the address cannot be used.
    """
    connections = Connections()
    app.middlewares.insert(0, connections.middleware())
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=ServerLog(connections.count_closed),
        shutdown_timeout=SHUTDOWN_SECONDS,
        lingering_time=LINGER_SECONDS,
        read_bufsize=READ_BUFFER_BYTES,
        auto_decompress=False,  # no route takes compressed bodies
    )
    await runner.setup()
    try:
        try:
            server = await _listen(runner, connections, host, port)
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {host}:{port} ({error.strerror or error}). Remedy: set RECEIVER_HOST and "
                "RECEIVER_PORT, or for a worker METRICS_HOST and METRICS_PORT, to a free address."
            ) from None
        bound = [socket.getsockname()[:2] for socket in server.sockets]
        addresses = [f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}" for ip, number in bound]
        log.info("listening", addresses=addresses)
        try:
            async with connections.limited():
                yield addresses
        finally:
            server.close()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, connections: Connections, host: str, port: int) -> asyncio.Server:
    """Listen as aiohttp's TCPSite does, and apply the limits of `connections` to each connection."""
    create = runner.server
    if create is None:
        raise RuntimeError("the runner is not set up")
    loop = asyncio.get_running_loop()
    addresses = listen_addresses(host)
    return await loop.create_server(lambda: connections.create(create()), addresses, port, backlog=MAX_CONNECTIONS)


async def wait_first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of the coroutines ends, and cancel the others. An exception of the one that ended is raised."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in done:
        task.result()
