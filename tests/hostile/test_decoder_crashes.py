"""Decoders that crash, hang and eat: each costs one attempt of one file, the process is replaced, the others go on.

Some are plain Python functions; where it says `in the middle`, a real decoder is at work and is harmed from outside.
"""

import asyncio
import signal
import subprocess
import sys
from textwrap import dedent

import psutil
import pytest
import pyvips

from handlers.errors import DecoderLimitError, FileProcessingError
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.codec_processes import wait_for_decoding, make_picture, is_running, codec_pool, wait_until, prepares_picture
from tests.time_limits import SOON

ENDLESS = ("re:match", "(a+)+$", "a" * 64 + "b")
"""Takes years, and never gives control back to the interpreter, as a decoder in C may."""


@pytest.fixture
def picture(tmp_path):
    return make_picture(tmp_path)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """A picture that takes seconds to bring into AVIF."""
    path = tmp_path_factory.mktemp("heavy") / "heavy.png"
    pyvips.Image.gaussnoise(4000, 4000, sigma=20, mean=128, seed=1).cast("uchar").pngsave(str(path), compression=1)
    return path


@pytest.mark.parametrize("crash", [("os:abort",), ("signal:raise_signal", signal.SIGSEGV), ("os:_exit", 3)])
async def test_a_crash_costs_one_attempt_of_one_file(picture, crash):
    async with codec_pool() as codec:
        error, *others = await asyncio.gather(
            codec.call(*crash), *(prepares_picture(codec, picture) for _ in range(6)), return_exceptions=True
        )
        assert isinstance(error, FileProcessingError)
        assert (error.code, error.retryable) == ("decoder_crashed", True)
        assert others == [True] * 6
        assert codec.stats().restarts == {"crashed": 1}


@pytest.mark.parametrize(
    ("harm", "most_seconds", "code", "counted"),
    [(signal.SIGSEGV, 60, "decoder_crashed", "crashed"), (signal.SIGSTOP, 5, "decoder_limit", "timeout")],
)
async def test_a_decoder_harmed_in_the_middle(picture, heavy, tmp_path, harm, most_seconds, code, counted):
    async with codec_pool(codec_timeout_seconds=most_seconds) as codec:
        slow = codec.prepare(heavy, tmp_path / "out", "image/png", Profile(format=ImageFormat.AVIF))
        running = asyncio.create_task(slow)
        process = await wait_for_decoding(codec)
        process.send_signal(harm)
        assert [await prepares_picture(codec, picture) for _ in range(4)] == [True] * 4
        with pytest.raises(FileProcessingError) as caught:
            await running
        assert (caught.value.code, caught.value.retryable) == (code, code == "decoder_crashed")
        await wait_until(lambda: not is_running(process))
        assert codec.stats().restarts == {counted: 1}
        assert await prepares_picture(codec, picture)


async def test_many_crashes_cost_nobody_else_anything(picture):
    """A process that dies at once, before it was heard of, perhaps; which files the others have must not matter."""
    async with codec_pool() as codec:
        for _ in range(10):
            calls = [codec.call("os:_exit", 3), *(prepares_picture(codec, picture) for _ in range(3))]
            error, *others = await asyncio.gather(*calls, return_exceptions=True)
            assert getattr(error, "code", error) == "decoder_crashed"
            assert others == [True] * 3
        assert codec.stats().restarts == {"crashed": 10}


@pytest.mark.parametrize("hang", [("time:sleep", 600), ENDLESS], ids=["asleep", "busy"])
async def test_a_hang_is_ended_and_the_others_go_on(picture, hang):
    async with codec_pool(codec_timeout_seconds=2) as codec:
        ended, *others = await asyncio.gather(
            codec.call(*hang), *(prepares_picture(codec, picture) for _ in range(4)), return_exceptions=True
        )
        assert isinstance(ended, DecoderLimitError)
        assert "CODEC_TIMEOUT_SECONDS" in str(ended)
        assert others == [True] * 4
        assert codec.stats().restarts == {"timeout": 1}


async def test_a_picture_that_eats_memory_is_refused_and_the_others_go_on(picture, tmp_path):
    hog = tmp_path / "hog.jpg"  # progressive: libjpeg must hold every coefficient, 2 bytes a pixel
    pyvips.Image.black(13_000, 13_000).jpegsave(str(hog), interlace=True)
    async with codec_pool(codec_memory_mb=256, max_image_pixels=1_000_000_000) as codec:
        hogged, *others = await asyncio.gather(
            codec.prepare(hog, tmp_path / "out", "image/jpeg", Profile()),
            *(prepares_picture(codec, picture) for _ in range(4)),
            return_exceptions=True,
        )
        assert isinstance(hogged, DecoderLimitError), hogged
        assert "memory" in str(hogged)
        assert others == [True] * 4


async def test_memory_is_limited_in_every_process():
    async with codec_pool(codec_processes=1) as codec:
        with pytest.raises(FileProcessingError, match="MemoryError"):
            await codec.call("builtins:bytearray", 4 << 30)


PARENT = """
    import asyncio
    from handlers.codec.codec import Codec
    from handlers.settings import MediaSettings

    async def main():
        codec = Codec(MediaSettings(_env_file=None, codec_processes=1, codec_timeout_seconds=600))
        busy = asyncio.create_task(codec.call("re:match", "(a+)+$", "a" * 64 + "b"))
        while not codec._processes.busy:
            await asyncio.sleep(0.02)
        print("ready", flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


def test_a_busy_decoder_ends_with_its_parent(tmp_path):
    """Though it never gives control back to the interpreter; long before its time is up."""
    parent = subprocess.Popen([sys.executable, "-c", dedent(PARENT)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)  # noqa: S603
    with parent, parent.stdout:
        assert parent.stdout.readline() == "ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) == 2
        parent.kill()
    gone, alive = psutil.wait_procs(children, timeout=SOON)
    assert (len(gone), alive) == (len(children), [])


async def test_a_decoder_that_hogs_the_processor_is_ended_by_the_kernel():
    """Also where the clock of the pool is not looked at."""
    async with codec_pool(codec_processes=1, codec_timeout_seconds=1) as codec:
        codec._processes._seconds = 600
        with pytest.raises(DecoderLimitError):
            await codec.call(*ENDLESS)
