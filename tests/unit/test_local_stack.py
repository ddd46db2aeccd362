"""What the local stack does when things end otherwise than planned: children, signals, files that do not land."""

import asyncio
import contextlib
import os
import signal
import sys

import psutil
import pytest

from deploy.local.demo import StoredFile, missing_files
from deploy.local.processes import Child, StackError, run_all, unexpected_exits
from deploy.local.signals import run_until_signal
from tests.time_limits import WAIT_SECONDS

DEAF = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("up", flush=True)
time.sleep(600)
"""


async def deaf_child(data_dir) -> Child:
    """A child with a child of its own that takes no polite hint."""
    child = await Child.spawn("deaf", [sys.executable, "-c", DEAF], data_dir=data_dir)
    async with asyncio.timeout(WAIT_SECONDS):
        while "up" not in child.tail():
            await asyncio.sleep(0.02)
    return child


async def test_a_cancelled_stop_still_ends_the_whole_group(tmp_path):
    child = await deaf_child(tmp_path)
    group = [psutil.Process(child.process.pid), *psutil.Process(child.process.pid).children()]
    assert len(group) == 2
    stopping = asyncio.create_task(child.stop(600))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    gone, left = psutil.wait_procs(group, timeout=WAIT_SECONDS)
    assert (len(gone), left) == (2, [])
    assert not child.record.exists()


async def test_what_ends_by_itself_is_told_with_its_log_and_what_is_stopped_is_not(tmp_path):
    child = await deaf_child(tmp_path)
    assert unexpected_exits(tmp_path) == {}
    os.kill(child.process.pid, signal.SIGKILL)
    await child.process.wait()
    assert unexpected_exits(tmp_path) == {"deaf": "up"}
    await child.stop()
    assert unexpected_exits(tmp_path) == {}


async def test_of_parts_that_fail_together_the_remedy_is_raised_itself():
    async def fails(error):
        raise error

    with pytest.raises(StackError, match="make setup"):
        await run_all(fails(OSError("torn")), fails(StackError("run `make setup`")), asyncio.sleep(600))


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_first_signal_ends_and_further_ones_do_not_cut_short(first):
    cleaned = False

    async def work() -> int:
        nonlocal cleaned
        try:
            os.kill(os.getpid(), first)
            await asyncio.sleep(600)
        finally:
            for sign in (signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), sign)
            await asyncio.sleep(0.1)  # long enough for the loop to hear of the signals
            cleaned = True
        return 7

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    with contextlib.ExitStack() as undo:
        undo.callback(signal.signal, signal.SIGHUP, before)
        assert await run_until_signal(work(), exit_code=5) == 5
    assert cleaned


async def test_work_that_ends_by_itself_returns_its_own_code():
    assert await run_until_signal(asyncio.sleep(0, 3), exit_code=5) == 3


def test_each_file_that_did_not_land_is_named_with_its_reason():
    def generation(number, *names):
        return {
            "id": number,
            "output": {"images": [{"file_name": name, "url": f"http://s/files/{name}"} for name in names]},
        }

    def stored(number, name, *, intact=True, on_row=True):
        return StoredFile({"generation_id": number, "original_filename": name}, 1.0, intact, on_row)

    def task(number, status, code=None, error=None, failed=()):
        return {"generation_id": number, "status": status, "error_code": code, "error": error, "failed": list(failed)}

    gone = {"url": "http://s/files/b", "code": "source_gone", "error": "404"}
    assert missing_files(
        [generation(1, "a", "b", "c", "d"), generation(2, "e"), generation(3, "f"), generation(4, "g")],
        [
            task(1, "partial", "source_gone", "404", [gone]),
            task(2, "failed", "storage_refused", "no bucket"),
            task(3, "running"),
        ],
        [stored(1, "a"), stored(1, "c", intact=False), stored(1, "d", on_row=False)],
    ) == {
        "b": "source_gone: 404",
        "c": "Storage returns other bytes than recorded",
        "d": "its generation's row does not name it",
        "e": "its task is failed, storage_refused: no bucket",
        "f": "its task is running",
        "g": "it has no task, because the webhook did not arrive",
    }
