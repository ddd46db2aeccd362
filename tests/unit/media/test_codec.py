"""The pool of codec processes: start, replacement, cancelling, closing. Bad files and decoders: tests/hostile."""

import asyncio
import errno
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from handlers.codec.codec import Codec
from handlers.codec.request import Request
from handlers.errors import FileCorruptedError, FileProcessingError
from handlers.settings import MediaSettings
from schemas.formats import MAX_LOG_CHARACTERS, MAX_LOG_LINES
from schemas.jobs import Profile
from tests.codec_processes import (
    children_of,
    codec_pool,
    codec_process_pids,
    fork_server_pids,
    is_running,
    make_picture,
    prepares_picture,
    wait_until,
)
from tests.time_limits import WAIT_SECONDS

pytestmark = pytest.mark.slow


@pytest.fixture
async def codec() -> AsyncIterator[Codec]:
    async with codec_pool() as codec:
        yield codec


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return make_picture(tmp_path)


async def test_processes_start_on_first_use_and_end_on_close(codec: Codec, picture: Path) -> None:
    before, others, descriptors = fork_server_pids(), codec_process_pids(), open_descriptors()
    assert codec.stats().processes == {"busy": 0, "idle": 0}
    assert await prepares_picture(codec, picture)
    assert len(codec_process_pids() - others) == 1  # sequential calls need one process
    assert codec.stats().processes == {"busy": 0, "idle": 2}
    assert await asyncio.gather(*(prepares_picture(codec, picture) for _ in range(6))) == [True] * 6
    assert len(codec_process_pids() - others) == 2
    await codec.aclose()
    assert (fork_server_pids(), codec_process_pids()) == (before, others)
    assert open_descriptors() <= descriptors
    assert await prepares_picture(codec, picture)  # usable again


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_processes_are_forked_from_one_single_threaded_server(codec: Codec, picture: Path) -> None:
    """A fork copies only the calling thread; locks that other threads held would stay locked."""
    others = fork_server_pids()
    assert await asyncio.gather(*(prepares_picture(codec, picture) for _ in range(4))) == [True] * 4
    [server] = fork_server_pids() - others
    assert psutil.Process(server).num_threads() == 1
    assert len(children_of(server)) == 2


@pytest.mark.parametrize("seconds", [0, 2], ids=["idle", "busy"])
async def test_killed_fork_server_is_replaced_and_no_file_fails(codec: Codec, picture: Path, seconds: float) -> None:
    others = fork_server_pids()
    assert await prepares_picture(codec, picture)
    call = asyncio.create_task(codec.call("time:sleep", seconds))
    await wait_until(lambda: codec._processes.busy or call.done())
    [server] = fork_server_pids() - others
    forked = children_of(server)
    assert len(forked) == 1
    os.kill(server, signal.SIGKILL)
    assert await asyncio.gather(*(prepares_picture(codec, picture) for _ in range(4))) == [True] * 4
    assert await call is None  # it was sent again
    await wait_until(lambda: not any(map(is_running, forked)))
    assert codec.stats().restarts == {}


async def test_close_does_not_wait_for_a_stopped_fork_server(codec: Codec, picture: Path) -> None:
    others = fork_server_pids()
    assert await prepares_picture(codec, picture)
    [server] = fork_server_pids() - others
    forked = children_of(server)
    os.kill(server, signal.SIGSTOP)
    async with asyncio.timeout(WAIT_SECONDS):
        await codec.aclose()
    await wait_until(lambda: not any(map(is_running, forked)))


async def test_call_is_retryable_when_every_process_exits_at_start(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec._processes, "_start", Request("os:_exit", [5], str))
    with pytest.raises(FileProcessingError, match="exit code 5") as caught:
        await codec.call("os:getpid")
    assert (caught.value.code, caught.value.retryable) == ("decoder_crashed", True)


async def test_error_of_a_failed_process_start_is_reported(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec._processes, "_start", Request("builtins:int", ["three"], str))
    with pytest.raises(FileProcessingError, match="did not start: ValueError: invalid literal") as caught:
        await codec.call("os:getpid")
    assert caught.value.retryable
    monkeypatch.undo()
    assert await codec.call("builtins:abs", -3) == 3


async def test_call_without_free_descriptors_is_retryable_and_leaks_none(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await codec.call("builtins:abs", -3) == 3
    os.kill(await codec.call("os:getpid"), signal.SIGKILL)

    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def fails() -> int:
        with pytest.raises(FileProcessingError, match="Too many open files") as caught:
            await codec.call("os:getpid")
        assert caught.value.retryable
        return open_descriptors()

    monkeypatch.setattr("handlers.codec.fork_server.socket.socketpair", none_left)
    assert await fails() == await fails()
    monkeypatch.undo()
    assert await codec.call("builtins:abs", -3) == 3


async def test_an_exception_is_decoder_failed_and_its_traceback_is_logged(
    codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FileProcessingError, match="ValueError: invalid literal") as caught:
        await codec.call("builtins:int", "three")
    assert (caught.value.code, caught.value.retryable) == ("decoder_failed", True)
    [line] = [record for record in caplog.records if "Traceback" in record.message]
    assert "ValueError: invalid literal" in line.message
    assert await codec.call("builtins:abs", -3) == 3


async def test_a_result_that_is_not_plain_data_is_decoder_failed(codec: Codec) -> None:
    with pytest.raises(FileProcessingError, match="not JSON serializable") as caught:
        await codec.call("threading:Lock")
    assert caught.value.code == "decoder_failed"
    assert await codec.call("builtins:abs", -3) == 3


async def test_log_lines_are_limited_in_number_and_length(codec: Codec, caplog: pytest.LogCaptureFixture) -> None:
    assert (
        await codec.call("tests.hostile.compromised_decoder:log_much", MAX_LOG_LINES + 5, MAX_LOG_CHARACTERS * 2)
        == "done"
    )
    lines = [record for record in caplog.records if record.name == "async_file_processor.codec"]
    assert [len(line.getMessage()) for line in lines] == [MAX_LOG_CHARACTERS] * MAX_LOG_LINES
    assert {(line.levelno, line.codec_logger) for line in lines} == {(logging.CRITICAL, "hostile")}  # type: ignore[attr-defined]
    assert {line.codec_process for line in lines} <= codec_process_pids()  # type: ignore[attr-defined]


async def test_cancelling_ends_the_process(codec: Codec, picture: Path) -> None:
    others = codec_process_pids()
    assert await prepares_picture(codec, picture)
    first, second = [asyncio.create_task(codec.call("time:sleep", 600)) for _ in range(2)]
    await wait_until(lambda: len(codec_process_pids() - others) == 2)
    before = codec_process_pids() - others
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await wait_until(lambda: len(codec_process_pids() & before) == 1)
    assert await prepares_picture(codec, picture)
    assert not second.done()
    assert len(codec_process_pids() - others - before) == 1
    second.cancel()


async def test_close_ends_running_and_waiting_calls_with_decoder_crashed(codec: Codec, picture: Path) -> None:
    others = codec_process_pids()
    waiting = [asyncio.create_task(codec.call("time:sleep", 600)) for _ in range(5)]  # two run, three wait
    await wait_until(lambda: len(codec_process_pids() - others) == 2)
    await codec.aclose()
    async with asyncio.timeout(WAIT_SECONDS):
        errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert {getattr(error, "code", error) for error in errors} == {"decoder_crashed"}
    assert await prepares_picture(codec, picture)


@pytest.mark.parametrize("killed", [1, 2])
async def test_processes_killed_while_idle_are_replaced_and_no_file_fails(
    codec: Codec, picture: Path, killed: int
) -> None:
    before = codec_process_pids()
    for _ in range(3):
        assert await asyncio.gather(*(prepares_picture(codec, picture) for _ in range(4))) == [True] * 4
        idle = sorted(codec_process_pids() - before)
        for pid in idle[:killed]:
            os.kill(pid, signal.SIGKILL)
        assert await asyncio.gather(*(prepares_picture(codec, picture) for _ in range(4))) == [True] * 4
        codec.check(picture, "image/png")


async def test_more_killed_idle_processes_than_tries_fail_no_file(picture: Path) -> None:
    async with codec_pool(codec_processes=8) as codec:
        others = codec_process_pids()
        async with asyncio.timeout(WAIT_SECONDS):
            while len(idle := codec_process_pids() - others) < 8:
                await asyncio.gather(*(codec.call("time:sleep", 0.3) for _ in range(8)))
        for pid in idle:
            os.kill(pid, signal.SIGKILL)
        assert await prepares_picture(codec, picture)


async def test_process_is_replaced_after_codec_max_tasks() -> None:
    async with codec_pool(codec_processes=1, codec_max_tasks=2) as codec:
        pids = [await codec.call("os:getpid") for _ in range(5)]
        assert len(set(pids)) == 3


async def test_a_corrupted_file_keeps_its_error_class_and_code(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "not.png"
    source.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(FileCorruptedError) as caught:
        await codec.prepare(source, tmp_path / "out", "image/png", Profile())
    assert caught.value.code == "corrupted"


def test_codec_works_in_one_event_loop_after_another(picture: Path) -> None:
    codec = Codec(MediaSettings(_env_file=None, codec_processes=2))
    for _ in range(2):
        with asyncio.Runner() as runner:  # not the event loop that other tests share
            assert runner.run(prepares_picture(codec, picture))
    codec.check(picture, "image/png")
    with asyncio.Runner() as runner:
        runner.run(codec.aclose())
