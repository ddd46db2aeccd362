"""The local stack when things go wrong: child processes that exit, signals, files that are not stored."""

import asyncio
import contextlib
import os
import signal
import socket
import sys

import psutil
import pytest

from deploy.local.demo import StoredFile, missing_files
from deploy.local.processes import Child, StackError, run_all, unexpected_exits
from deploy.local.signals import run_until_signal
from deploy.local.stack import Stack
from tests.time_limits import WAIT_SECONDS

IGNORES_SIGTERM = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("up", flush=True)
time.sleep(600)
"""


async def spawn_stubborn(data_dir) -> Child:
    """Start a process that ignores SIGTERM and has a child process."""
    child = await Child.spawn("stubborn", [sys.executable, "-c", IGNORES_SIGTERM], data_dir=data_dir)
    async with asyncio.timeout(WAIT_SECONDS):
        while "up" not in child.tail():
            await asyncio.sleep(0.02)
    return child


async def test_a_cancelled_stop_kills_the_whole_process_group(tmp_path):
    child = await spawn_stubborn(tmp_path)
    group = [psutil.Process(child.process.pid), *psutil.Process(child.process.pid).children()]
    assert len(group) == 2
    stopping = asyncio.create_task(child.stop(600))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    exited, running = psutil.wait_procs(group, timeout=WAIT_SECONDS)
    assert (len(exited), running) == (2, [])
    assert not child.record.exists()


async def test_a_change_of_the_system_clock_ends_no_stack(tmp_path, monkeypatch):
    """psutil's start times move with the clock, as when a virtual machine resumes."""
    child = await spawn_stubborn(tmp_path)
    created = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: created(process) + 1)
    assert unexpected_exits(tmp_path) == {}
    await child.stop(0.1)


async def test_an_unexpected_exit_is_reported_with_its_log_and_a_stop_is_not(tmp_path):
    child = await spawn_stubborn(tmp_path)
    assert unexpected_exits(tmp_path) == {}
    os.kill(child.process.pid, signal.SIGKILL)
    await child.process.wait()
    assert unexpected_exits(tmp_path) == {"stubborn": "up"}
    await child.stop()
    assert unexpected_exits(tmp_path) == {}


async def test_a_port_in_use_is_reported_before_anything_starts(tmp_path):
    """If another program has the port, its answers would be mistaken for the receiver's."""
    steps = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            StackError, match=f"port {port} of 127.0.0.1 cannot be used .Address already in use.: .*--port"
        ):
            await Stack(tmp_path, port=port, report=steps.append).__aenter__()
    assert steps == []
    assert not (tmp_path / "rabbitmq").exists()


async def test_of_several_errors_the_one_with_a_remedy_is_raised():
    async def fails(error):
        raise error

    with pytest.raises(StackError, match="make setup"):
        await run_all(fails(OSError("broken")), fails(StackError("run `make setup`")), asyncio.sleep(600))


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_first_signal_cancels_and_further_signals_do_not_interrupt_the_cleanup(first):
    cleaned, handled, loop = False, asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, handled.set)

    async def work() -> int:
        nonlocal cleaned
        try:
            os.kill(os.getpid(), first)
            await asyncio.sleep(600)
        finally:
            for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                os.kill(os.getpid(), signal_number)
            await handled.wait()  # signals are handled in the order of their arrival
            cleaned = True
        return 7

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    with contextlib.ExitStack() as undo:
        undo.callback(signal.signal, signal.SIGHUP, before)
        undo.callback(loop.remove_signal_handler, signal.SIGUSR1)
        assert await run_until_signal(work(), exit_code=5) == 5
    assert cleaned


async def test_without_a_signal_the_works_own_exit_code_is_returned():
    assert await run_until_signal(asyncio.sleep(0, 3), exit_code=5) == 3


def test_each_missing_file_is_reported_with_its_reason():
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
