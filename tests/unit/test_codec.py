"""The pool of codec processes under bad decoders and bad ends. The functions that misbehave are plain Python's."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
import pyvips

from handlers.codec import Codec
from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError
from handlers.settings import MediaSettings
from schemas.jobs import Profile

MOST_SECONDS = 15.0


def settings(**changes: object) -> MediaSettings:
    return MediaSettings(**{"codec_processes": 2, "codec_timeout_seconds": 30, **changes})


@pytest.fixture
async def codec() -> AsyncIterator[Codec]:
    codec = Codec(settings())
    yield codec
    await codec.aclose()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    (pyvips.Image.gaussnoise(400, 300, sigma=20, mean=128, seed=1).cast("uchar")).pngsave(str(path))
    return path


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(MOST_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def works(codec: Codec, picture: Path) -> bool:
    made = await codec.prepare(picture, picture.with_name("prepared"), "image/png", Profile())
    return (made.width, made.height) == (400, 300)


def workers() -> set[int]:
    return {process.pid for process in psutil.Process().children() if is_worker(process)}


def is_worker(process: psutil.Process) -> bool:
    try:
        return any("popen_loky" in word for word in process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one, too
        return False


async def test_nothing_starts_before_it_is_needed_and_nothing_stays(codec: Codec, picture: Path) -> None:
    before = workers()
    assert codec.stats().processes == {"busy": 0, "idle": 0}
    assert await works(codec, picture)
    assert len(workers() - before) == 2
    assert codec.stats().processes == {"busy": 0, "idle": 2}
    await codec.aclose()
    assert workers() == before
    assert await works(codec, picture)  # usable again


@pytest.mark.parametrize("crash", [(os.abort,), (signal.raise_signal, signal.SIGSEGV), (os._exit, 3)])
async def test_a_crash_costs_one_attempt_of_one_file(
    codec: Codec, picture: Path, crash: tuple[Callable[..., object], object]
) -> None:
    results = await asyncio.gather(
        codec._run(*crash), *(works(codec, picture) for _ in range(6)), return_exceptions=True
    )
    error, *others = results
    assert isinstance(error, FileProcessingError)
    assert (error.code, error.retryable) == ("decoder_crashed", True)
    assert others == [True] * 6
    assert codec.stats().restarts == {"crashed": 1}


async def test_a_hang_is_ended_and_the_others_go_on(picture: Path) -> None:
    codec = Codec(settings(codec_timeout_seconds=1))
    try:
        started = time.monotonic()
        hang, *others = await asyncio.gather(
            codec._run(time.sleep, 600), *(works(codec, picture) for _ in range(4)), return_exceptions=True
        )
        assert isinstance(hang, DecoderLimitError)
        assert "CODEC_TIMEOUT_SECONDS" in str(hang)
        assert others == [True] * 4
        assert time.monotonic() - started < MOST_SECONDS
        assert codec.stats().restarts == {"timeout": 1}
    finally:
        await codec.aclose()


async def test_a_picture_that_eats_memory_is_refused_and_the_others_go_on(picture: Path, tmp_path: Path) -> None:
    hog = tmp_path / "hog.jpg"  # progressive: libjpeg must hold every coefficient, 2 bytes a pixel
    pyvips.Image.black(13_000, 13_000).jpegsave(str(hog), interlace=True)
    codec = Codec(settings(codec_memory_mb=256, max_image_pixels=1_000_000_000))
    try:
        hogged, *others = await asyncio.gather(
            codec.prepare(hog, tmp_path / "out", "image/jpeg", Profile()),
            *(works(codec, picture) for _ in range(4)),
            return_exceptions=True,
        )
        assert isinstance(hogged, DecoderLimitError), hogged
        assert "memory" in str(hogged)
        assert others == [True] * 4
    finally:
        await codec.aclose()


async def test_memory_is_limited_in_every_process(codec: Codec) -> None:
    with pytest.raises(MemoryError):
        await codec._run(bytearray, 4 << 30)


async def test_cancelling_ends_the_process(codec: Codec, picture: Path) -> None:
    assert await works(codec, picture)
    before = workers()
    sleeping = asyncio.create_task(codec._run(time.sleep, 600))
    await until(lambda: codec.stats().processes["busy"] == 1 and any(f.running() for f in codec._waiting))
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    await until(lambda: len(workers() & before) == 1)
    assert await works(codec, picture)


async def test_closing_leaves_nobody_waiting(codec: Codec, picture: Path) -> None:
    waiting = [asyncio.create_task(codec._run(time.sleep, 600)) for _ in range(5)]  # two run, three wait
    await until(lambda: sum(future.running() for future in codec._waiting) == 2)
    await codec.aclose()
    async with asyncio.timeout(MOST_SECONDS):
        errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert {getattr(error, "code", error) for error in errors} == {"decoder_crashed"}
    assert await works(codec, picture)


async def test_a_process_killed_while_idle_is_replaced(codec: Codec, picture: Path) -> None:
    before = workers()
    assert await works(codec, picture)
    for pid in workers() - before:
        os.kill(pid, signal.SIGKILL)

    refused: list[FileProcessingError] = []
    async with asyncio.timeout(MOST_SECONDS):
        while not await again(codec, picture, refused):
            await asyncio.sleep(0.05)
    assert {(error.code, error.retryable) for error in refused} <= {("decoder_crashed", True)}


async def again(codec: Codec, picture: Path, refused: list[FileProcessingError]) -> bool:
    try:
        return await works(codec, picture)
    except FileProcessingError as error:
        refused.append(error)
        return False


async def test_processes_are_replaced_after_so_many_files() -> None:
    codec = Codec(settings(codec_processes=1, codec_max_tasks=2))
    try:
        pids = [await codec._run(os.getpid) for _ in range(5)]
        assert len(set(pids)) == 3
    finally:
        await codec.aclose()


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
    codec = Codec(settings())
    for _ in range(2):
        with asyncio.Runner() as runner:  # apart from the loop the other tests share
            assert runner.run(works(codec, picture))
    codec.check(picture, "image/png")
    with asyncio.Runner() as runner:
        runner.run(codec.aclose())


SCRIPT = """
    import asyncio, sys
    from pathlib import Path
    from handlers.codec import Codec
    from handlers.settings import MediaSettings
    from schemas.jobs import Profile

    print("run")
    source = Path({picture!r})
    codec = Codec(MediaSettings(codec_processes=2))
    made = asyncio.run(codec.prepare(source, source.with_name("out"), "image/png", Profile()))
    codec.check(source, "image/png")
    print(made.content_type)
"""


@pytest.mark.parametrize("how", ["script", "command", "standard input", "closed"])
def test_an_unguarded_program_may_decode(picture: Path, tmp_path: Path, how: str) -> None:
    program = dedent(SCRIPT).format(picture=str(picture))
    if how == "closed":
        program += "asyncio.run(codec.aclose())\n"
    script = tmp_path / "script.py"
    script.write_text(program)
    argv = {"command": ["-c", program], "standard input": ["-"]}.get(how, [str(script)])
    given = program if how == "standard input" else None
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *argv], input=given, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["run", "image/jpeg"]  # run once: no child repeats the program


PARENT = """
    import asyncio, os, time
    from handlers.codec import Codec
    from handlers.settings import MediaSettings

    async def main():
        codec = Codec(MediaSettings(codec_processes=2))
        await codec._run(os.getpid)
        busy = asyncio.create_task(codec._run(time.sleep, 600))
        while not any(future.running() for future in codec._waiting):
            await asyncio.sleep(0.02)
        print("ready", flush=True)
        await busy

    asyncio.run(main())
"""


def test_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", dedent(PARENT)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        assert parent.stdout.readline() == "ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.kill()
    deadline = time.monotonic() + 5
    while any(map(lives, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [child for child in children if lives(child)]


def lives(process: psutil.Process) -> bool:
    """Whether the process still runs; one that ended and was not collected yet does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
