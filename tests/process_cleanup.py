"""End the processes that a killed pytest leaves: `python -I tests/process_cleanup.py <pid> <folder> <marker>`.

Waits until process <pid> has ended, then ends every process that works in <folder> or whose environment has <marker>
set to a path in it, and removes the data of the test servers that is in memory. Runs in a session of its own, so that
Ctrl-C does not reach it. Uses the standard library only.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

GRACE_SECONDS = 5.0


def main() -> None:
    pid, folder, marker = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    with contextlib.suppress(ProcessLookupError):  # it has already ended
        select.select([os.pidfd_open(pid)], [], [])
    # PostgreSQL frees its shared memory when it gets SIGTERM.
    for sign in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        send(sign, leftovers(folder, marker))
        while leftovers(folder, marker) and time.monotonic() < deadline:
            time.sleep(0.1)
    shutil.rmtree(memory_folder(folder), ignore_errors=True)


def memory_folder(folder: str) -> Path:
    """Return the folder in memory that belongs to pytest's folder: it has the data of the tests' servers."""
    return Path("/dev/shm") / f"outlast{folder.replace('/', '-')}"  # noqa: S108 - its user creates it for itself


def leftovers(folder: str, marker: str) -> list[int]:
    """Return the pids of the processes of this folder except our own."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and belongs(pid, folder, marker)]


def belongs(pid: int, folder: str, marker: str) -> bool:
    """Whether a process works in the folder or has the marker set to a path in it. A zombie has neither."""
    process = Path("/proc") / str(pid)
    with contextlib.suppress(OSError):
        if inside(str((process / "cwd").readlink()), folder):
            return True
    with contextlib.suppress(OSError):
        for entry in (process / "environ").read_bytes().split(b"\0"):
            name, _, value = entry.decode(errors="replace").partition("=")
            if name == marker and inside(value, folder):
                return True
    return False


def inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def send(sign: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, sign)


if __name__ == "__main__":
    main()
