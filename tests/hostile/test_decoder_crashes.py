"""Decoders that crash, hang or use too much memory: one attempt of one file fails, and the process is replaced.

Some decoders are plain Python functions; other tests send signals to a real decoder while it works.
"""

import asyncio
import signal
import sys
from dataclasses import asdict
from textwrap import dedent

import psutil
import pytest
import pyvips

from handlers.codec.pool import ProcessPool
from handlers.codec.process import ProcessEndedError
from handlers.codec.request import Request
from handlers.errors import DecoderLimitError, FileProcessingError
from handlers.media import Limits
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.codec_processes import codec_pool, is_running, make_picture, prepares_picture, wait_for_decoding, wait_until
from tests.time_limits import WAIT_SECONDS

ENDLESS = ("re:match", "(a+)+$", "a" * 64 + "b")
"""Takes years without releasing the GIL, as a decoder in C may."""


@pytest.fixture
def picture(tmp_path):
    return make_picture(tmp_path)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """A picture that takes seconds to encode as AVIF."""
    path = tmp_path_factory.mktemp("heavy") / "heavy.png"
    pyvips.Image.gaussnoise(4000, 4000, sigma=20, mean=128, seed=1).cast("uchar").pngsave(str(path), compression=1)
    return path


@pytest.mark.parametrize("crash", [("os:abort",), ("signal:raise_signal", signal.SIGSEGV), ("os:_exit", 3)])
async def test_a_crash_fails_one_attempt_of_one_file(picture, crash):
    async with codec_pool() as codec:
        error, *others = await asyncio.gather(
            codec.call(*crash), *(prepares_picture(codec, picture) for _ in range(6)), return_exceptions=True
        )
        assert isinstance(error, FileProcessingError)
        assert (error.code, error.retryable) == ("decoder_crashed", True)
        assert others == [True] * 6
        assert codec.stats().restarts == {"crashed": 1}


@pytest.mark.parametrize(
    ("signal_number", "time_limit", "code", "restart_reason"),
    [(signal.SIGSEGV, 60, "decoder_crashed", "crashed"), (signal.SIGSTOP, 10, "decoder_limit", "timeout")],
)
async def test_a_decoder_killed_or_stopped_at_work_fails_its_own_file_only(
    picture, heavy, tmp_path, signal_number, time_limit, code, restart_reason
):
    async with codec_pool(codec_timeout_seconds=time_limit) as codec:
        slow = codec.prepare(heavy, tmp_path / "out", "image/png", Profile(format=ImageFormat.AVIF))
        running = asyncio.create_task(slow)
        process = await wait_for_decoding()
        process.send_signal(signal_number)
        is_retryable = code == "decoder_crashed" or not worked_for_a_tenth(process, time_limit)
        assert [await prepares_picture(codec, picture) for _ in range(4)] == [True] * 4
        with pytest.raises(FileProcessingError) as caught:
            await running
        assert (caught.value.code, caught.value.retryable) == (code, is_retryable)
        await wait_until(lambda: not is_running(process))
        assert codec.stats().restarts == {restart_reason: 1}
        assert await prepares_picture(codec, picture)


def worked_for_a_tenth(process, time_limit):
    """Whether a stopped decoder had a tenth of its time limit as processor time: the file may be the reason then."""
    times = process.cpu_times()
    return times.user + times.system >= time_limit / 10


async def test_many_crashes_fail_no_other_file(picture):
    """Some processes die before the pool has registered them."""
    async with codec_pool() as codec:
        for _ in range(10):
            calls = [codec.call("os:_exit", 3), *(prepares_picture(codec, picture) for _ in range(3))]
            error, *others = await asyncio.gather(*calls, return_exceptions=True)
            assert getattr(error, "code", error) == "decoder_crashed"
            assert others == [True] * 3
        assert codec.stats().restarts == {"crashed": 10}


@pytest.mark.parametrize(("hang", "retryable"), [(("time:sleep", 600), True), (ENDLESS, False)], ids=["asleep", "busy"])
async def test_a_hanging_decoder_is_killed_and_the_others_continue(picture, hang, retryable):
    """One that hardly ran did not hang because of its file."""
    async with codec_pool(codec_timeout_seconds=8) as codec:
        ended, *others = await asyncio.gather(
            codec.call(*hang), *(prepares_picture(codec, picture) for _ in range(4)), return_exceptions=True
        )
        assert isinstance(ended, DecoderLimitError)
        assert "CODEC_TIMEOUT_SECONDS" in str(ended)
        assert ended.retryable is retryable
        assert others == [True] * 4
        assert codec.stats().restarts == {"timeout": 1}


async def test_a_picture_over_the_memory_limit_is_refused_and_the_others_continue(picture, tmp_path):
    large = tmp_path / "large.jpg"  # progressive: libjpeg must hold every coefficient, 2 bytes a pixel
    pyvips.Image.black(13_000, 13_000).jpegsave(str(large), interlace=True)
    async with codec_pool(codec_memory_mb=256, max_image_pixels=1_000_000_000) as codec:
        error, *others = await asyncio.gather(
            codec.prepare(large, tmp_path / "out", "image/jpeg", Profile()),
            *(prepares_picture(codec, picture) for _ in range(4)),
            return_exceptions=True,
        )
        assert isinstance(error, DecoderLimitError), error
        assert "memory" in str(error)
        assert others == [True] * 4


async def test_a_codec_process_has_a_memory_limit():
    async with codec_pool(codec_processes=1) as codec:
        with pytest.raises(FileProcessingError, match="MemoryError"):
            await codec.call("builtins:bytearray", 4 << 30)


PARENT = """
    import asyncio
    from handlers.codec.codec import Codec
    from handlers.settings import MediaSettings

    codec = Codec(MediaSettings(_env_file=None, codec_processes=1, codec_timeout_seconds=600))
    asyncio.run(codec.call("re:match", "(a+)+$", "a" * 64 + "b"))
"""


async def test_a_busy_decoder_is_killed_when_its_parent_dies(tmp_path):
    """Although it never releases the GIL, and long before its time limit."""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", dedent(PARENT), cwd=tmp_path)
    try:
        await wait_until(lambda: any(is_decoding(process, parent) for process in children_of(parent)))
        children = children_of(parent)
        assert len(children) == 2
    finally:
        parent.kill()
        await parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=WAIT_SECONDS)
    assert (len(gone), alive) == (len(children), [])


def children_of(parent):
    """Return the fork server and the codec processes of another process."""
    return psutil.Process(parent.pid).children(recursive=True)


def is_decoding(process, parent):
    """Whether it is a child of the fork server that has used a second of processor time."""
    try:
        return process.ppid() != parent.pid and process.cpu_times().user > 1
    except psutil.NoSuchProcess:
        return False


async def test_a_decoder_over_its_cpu_limit_is_killed_by_the_kernel():
    """Without the pool's own time limit, which is much longer here."""
    limits = asdict(Limits(max_pixels=1, max_frames=1, max_memory=1 << 30, max_written=1 << 20, seconds=1))
    pool = ProcessPool(
        Request("handlers.codec.decoder_main:start", [limits], str, gets_folder=True), size=1, tasks=0, seconds=600
    )
    function, *arguments = ENDLESS
    try:
        with pytest.raises(ProcessEndedError) as ended:
            await pool.run(Request(function, arguments, str, 1))
    finally:
        await pool.aclose()
    assert ended.value.exitcode == -signal.SIGXCPU
