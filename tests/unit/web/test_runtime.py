"""Running a process: the addresses to listen on, and its memory."""

import subprocess
import sys

import aiohttp
from aiohttp import web

from deploy.local.processes import free_port
from tests.time_limits import LONG_WAIT_SECONDS
from worker.runtime import serve
from worker.web.problem_details import problem_middleware

HEAPS = """
import ctypes, sys, threading
from worker.runtime import share_one_heap

if sys.argv[1] == "shared":
    share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
barrier = threading.Barrier(8)

def allocate():
    libc.malloc(ctypes.c_size_t(1000))
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""
"""Prints how glibc's heaps are used after eight threads have allocated memory at the same time."""


def count_heaps(mode: str) -> int:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", HEAPS, mode], capture_output=True, text=True, timeout=LONG_WAIT_SECONDS, check=True
    )
    return done.stdout.count("<heap nr=")


def test_threads_share_one_heap():
    assert count_heaps("shared") == 1 < count_heaps("separate")


async def test_two_colons_listen_on_all_addresses_of_both_families():
    app, port = web.Application(middlewares=[problem_middleware]), free_port()
    async with serve(app, "::", port) as addresses, aiohttp.ClientSession() as session:
        assert sorted(addresses) == [f"0.0.0.0:{port}", f"[::]:{port}"]
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            assert response.status == 404
