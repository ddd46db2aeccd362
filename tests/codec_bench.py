"""What the tests of codec processes have in common: a pool, a good picture, and looks at the processes from outside."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import psutil
import pyvips

from handlers.codec import Codec
from handlers.settings import MediaSettings
from schemas.jobs import Profile

MOST_SECONDS = 30.0


@contextlib.asynccontextmanager
async def pool(**changes: object) -> AsyncIterator[Codec]:
    codec = Codec(MediaSettings(**{"_env_file": None, "codec_processes": 2, "codec_timeout_seconds": 60, **changes}))
    try:
        yield codec
    finally:
        await codec.aclose()


def good_picture(folder: Path) -> Path:
    path = folder / "picture.png"
    pyvips.Image.gaussnoise(400, 300, sigma=20, mean=128, seed=1).cast("uchar").pngsave(str(path))
    return path


async def works(codec: Codec, picture: Path) -> bool:
    target = picture.with_name(f"prepared-{uuid4().hex}")
    made = await codec.prepare(picture, target, "image/png", Profile())
    return (made.width, made.height) == (400, 300)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(MOST_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


def workers() -> set[int]:
    return {process.pid for process in psutil.Process().children() if is_worker(process)}


def is_worker(process: psutil.Process) -> bool:
    try:
        return any("popen_loky" in word for word in process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one, too
        return False


def lives(process: psutil.Process) -> bool:
    """Whether the process still runs; one that ended and was not collected yet does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def at_work(codec: Codec) -> int | None:
    """The process that has a file just now; pebble tells nobody else."""
    tasks = list(codec._processes.pool._pool_manager.task_manager.tasks.values())
    return next((task.worker_id for task in tasks if task.worker_id), None)


async def decoding(codec: Codec) -> psutil.Process:
    """Wait until a process is in the middle of a file: until it has worked on it for a while."""
    await until(lambda: codec._processes.pool is not None and at_work(codec))
    process = psutil.Process(at_work(codec))
    begun = process.cpu_times().user
    await until(lambda: process.cpu_times().user > begun + 0.2)
    return process
