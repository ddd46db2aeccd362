"""The life of the pool of codec processes; how it takes bad files and bad decoders: tests/hostile."""

import asyncio
import os
import pickle
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handlers.codec import Codec
from handlers.errors import FileCorruptedError, FileProcessingError
from handlers.settings import MediaSettings
from schemas.jobs import Profile
from tests.codec_bench import MOST_SECONDS, good_picture, pool, until, workers, works


@pytest.fixture
async def codec() -> AsyncIterator[Codec]:
    async with pool() as codec:
        yield codec


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return good_picture(tmp_path)


async def test_nothing_starts_before_it_is_needed_and_nothing_stays(codec: Codec, picture: Path) -> None:
    before = workers()
    assert codec.stats().processes == {"busy": 0, "idle": 0}
    assert await works(codec, picture)
    assert len(workers() - before) == 2
    assert codec.stats().processes == {"busy": 0, "idle": 2}
    await codec.aclose()
    assert workers() == before
    assert await works(codec, picture)  # usable again


async def test_cancelling_ends_the_process(codec: Codec, picture: Path) -> None:
    assert await works(codec, picture)
    before = workers()
    sleeping = asyncio.create_task(codec._run(time.sleep, 600))
    await until(lambda: codec.stats().processes["busy"] == 1 and any(f.running() for f in codec._processes.waiting))
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    await until(lambda: len(workers() & before) == 1)
    assert await works(codec, picture)


async def test_closing_leaves_nobody_waiting(codec: Codec, picture: Path) -> None:
    waiting = [asyncio.create_task(codec._run(time.sleep, 600)) for _ in range(5)]  # two run, three wait
    await until(lambda: sum(future.running() for future in codec._processes.waiting) == 2)
    await codec.aclose()
    async with asyncio.timeout(MOST_SECONDS):
        errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert {getattr(error, "code", error) for error in errors} == {"decoder_crashed"}
    assert await works(codec, picture)


@pytest.mark.parametrize("killed", [1, 2])
async def test_processes_killed_while_idle_are_replaced_and_cost_no_file(
    codec: Codec, picture: Path, killed: int
) -> None:
    before = workers()
    assert await works(codec, picture)
    for _ in range(3):
        idle = sorted(workers() - before)
        for pid in idle[:killed]:
            os.kill(pid, signal.SIGKILL)
        assert await asyncio.gather(*(works(codec, picture) for _ in range(4))) == [True] * 4
        codec.check(picture, "image/png")


async def test_processes_are_replaced_after_so_many_files() -> None:
    async with pool(codec_processes=1, codec_max_tasks=2) as codec:
        pids = [await codec._run(os.getpid) for _ in range(5)]
        assert len(set(pids)) == 3


async def test_errors_keep_what_they_know_on_their_way(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "not.png"
    source.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(FileCorruptedError) as caught:
        await codec.prepare(source, tmp_path / "out", "image/png", Profile())
    assert caught.value.code == "corrupted"
    sent = FileProcessingError("why", code="decoder_crashed", retryable=True, retry_after=3.5)
    came = pickle.loads(pickle.dumps(sent))  # noqa: S301 - our own object
    assert (str(came), came.code, came.retryable, came.retry_after) == ("why", "decoder_crashed", True, 3.5)


def test_one_event_loop_after_the_other(picture: Path) -> None:
    codec = Codec(MediaSettings(_env_file=None, codec_processes=2))
    for _ in range(2):
        with asyncio.Runner() as runner:  # apart from the loop the other tests share
            assert runner.run(works(codec, picture))
    codec.check(picture, "image/png")
    with asyncio.Runner() as runner:
        runner.run(codec.aclose())
