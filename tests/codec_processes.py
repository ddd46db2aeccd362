"""Shared by the tests of codec processes: a pool, a valid picture, and the processes as seen from outside."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest import mock
from uuid import uuid4

import psutil
import pyvips

from handlers.codec.codec import Codec
from handlers.settings import MediaSettings
from schemas.jobs import Profile
from tests.time_limits import WAIT_SECONDS

START = "tests.hostile.compromised_decoder:start"


@contextlib.asynccontextmanager
async def codec_pool(*, start: str = START, **changes: object) -> AsyncIterator[Codec]:
    """Yield a codec whose processes can call the functions of `tests.hostile.compromised_decoder`."""
    with mock.patch("handlers.codec.codec.START", start):
        codec = Codec(
            MediaSettings(**{"_env_file": None, "codec_processes": 2, "codec_timeout_seconds": 60, **changes})
        )
    try:
        yield codec
    finally:
        await codec.aclose()


def make_picture(folder: Path) -> Path:
    path = folder / "picture.png"
    pyvips.Image.gaussnoise(400, 300, sigma=20, mean=128, seed=1).cast("uchar").pngsave(str(path))
    return path


async def prepares_picture(codec: Codec, picture: Path) -> bool:
    target = picture.with_name(f"prepared-{uuid4().hex}")
    made = await codec.prepare(picture, target, "image/png", Profile())
    return (made.width, made.height) == (400, 300)


async def wait_until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


def fork_server_pids(above: psutil.Process | None = None) -> set[int]:
    """Return the pids of the fork servers that this process, or `above`, has started."""
    return {process.pid for process in (above or psutil.Process()).children() if _is_ours(process)}


def codec_process_pids() -> set[int]:
    return {process.pid for server in fork_server_pids() for process in children_of(server)}


def children_of(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _is_ours(process: psutil.Process) -> bool:
    try:
        return any("handlers.codec.fork_main" in word for word in process.cmdline())
    except psutil.NoSuchProcess:  # it has ended; psutil's ZombieProcess is a NoSuchProcess, too
        return False


def is_running(process: psutil.Process) -> bool:
    """Whether the process still runs; a zombie does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def wait_for_decoding() -> psutil.Process:
    """Wait until a codec process is in the middle of a file, that is, uses CPU; return that process."""
    first_seen: dict[int, float] = {}
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            for process in (child for pid in fork_server_pids() for child in children_of(pid)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    seconds = process.cpu_times().user
                    if seconds > first_seen.setdefault(process.pid, seconds) + 0.2:
                        return process
            await asyncio.sleep(0.02)
