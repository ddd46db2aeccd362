"""Child processes of a stack, and ending those that a crashed stack left behind.

Every child runs in its own session. Its environment has the variable MARKER with the data directory, which its
descendants inherit. A record in `<data_dir>/run/` has its pid and its stop signal. The next stack in the same data
directory uses marker and record to find the processes of a crashed stack, and ends them.
"""

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import random
import signal
import socket
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TextIO

import aiohttp
import psutil

MARKER: Final = "OUTLAST_STACK"
PORTS: Final = range(20_000, 32_768)
_ports = itertools.cycle(random.sample(PORTS, len(PORTS)))  # each port once, in a random order per process


class StackError(RuntimeError):
    """The local stack cannot run. The message has the problem and the remedy."""


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nothing listened on a moment ago.

    It lies below Linux's ephemeral ports (32768 and up), so that no connection takes it before the caller listens.
    """
    for port in itertools.islice(_ports, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StackError(f"no TCP port of 127.0.0.1 from {PORTS[0]} to {PORTS[-1]} is free: end what listens on them")


class RunningError(StackError):
    """Another stack already runs in the data directory."""


@dataclass(frozen=True)
class Child:
    """A child process. `log` is the file with its output, `record` the file with its pid and stop signal."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    record: Path
    stop_signal: signal.Signals

    @classmethod
    async def spawn(
        cls,
        name: str,
        argv: Sequence[str],
        *,
        data_dir: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Self:
        """Start `argv` with the environment `env` (default: this process's) and the marker; output to `log/<name>.log`.

        Raises:
            StackError: the process ended at once.
        """
        log = data_dir / "log" / f"{name}.log"
        record = data_dir / "run" / f"{name}.json"
        for file in (log, record):
            file.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env={**(os.environ if env is None else env), MARKER: str(data_dir)},
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            started = _start_ticks(process.pid)
        except OSError:
            raise StackError(f"{name} ended at once:\n{_tail(log, 15)}") from None
        record.write_text(json.dumps({"pid": process.pid, "start_ticks": started, "signal": int(stop_signal)}))
        return cls(name, process, log, record, stop_signal)

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.returncode is None

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log, for an error message."""
        return _tail(self.log, lines)

    async def wait_until_ready(self, url: str, seconds: float) -> None:
        """Wait until `url` returns 200.

        Raises:
            StackError: the child ended, or was not ready in time. The message has the last lines of the log.
        """
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            try:
                async with asyncio.timeout(seconds):
                    while self.running:
                        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                            async with session.get(url) as response:
                                if response.status == 200:  # noqa: PLR2004 - ready
                                    return
                        await asyncio.sleep(0.1)
            except TimeoutError:
                raise StackError(f"{self.name} was not ready within {seconds:g} s:\n{self.tail()}") from None
        raise StackError(f"{self.name} ended before it was ready:\n{self.tail()}")

    async def stop(self, grace: float = 15.0) -> None:
        """Send the stop signal and wait up to `grace` seconds, then kill the process group; also when cancelled."""
        if not self.running and not self.record.exists():
            return  # stopped earlier; its pid may belong to another process now
        try:
            if self.running:
                with contextlib.suppress(ProcessLookupError):
                    self.process.send_signal(self.stop_signal)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.process.wait(), grace)
        finally:  # also when we are cancelled while we wait
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
            self.record.unlink(missing_ok=True)


async def run_all(*parts: Coroutine[Any, Any, object]) -> None:
    """Await all concurrently. When one fails, cancel the others and raise its error; a StackError has precedence."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except BaseExceptionGroup as failures:
        stack_errors = [error for error in failures.exceptions if isinstance(error, StackError)]
        raise (stack_errors or failures.exceptions)[0] from None


def lock_data_dir(data_dir: Path) -> TextIO:
    """Lock the data directory for this process. Raises RunningError when another stack runs in it."""
    (data_dir / "run").mkdir(parents=True, exist_ok=True)
    lock = (data_dir / "run" / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise RunningError(
            f"Another stack already runs in {data_dir}. Stop it, or choose another --data-dir."
        ) from None
    return lock


def unexpected_exits(data_dir: Path) -> dict[str, str]:
    """Return the last lines of the log of each child that ended without being stopped, by the child's name."""
    records = sorted((data_dir / "run").glob("*.json"))
    ended = [record.stem for record in records if _recorded(record) is None]
    return {name: _tail(data_dir / "log" / f"{name}.log") for name in ended}


def end_leftovers(data_dir: Path, grace: float = 10.0) -> list[str]:
    """End all processes that a crashed stack left running in `data_dir`; return the names of its ended children.

    The caller must hold the lock of the data directory, so that every process with its marker is a leftover.
    """
    ended: list[str] = []
    leftovers: list[psutil.Process] = []
    for record in sorted((data_dir / "run").glob("*.json")):
        process = _recorded(record)
        if process is not None:
            ended.append(record.stem)
            leftovers.append(process)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(json.loads(record.read_text())["signal"])
        record.unlink(missing_ok=True)
    psutil.wait_procs(leftovers, timeout=grace)
    remaining = [*leftovers, *_marked(data_dir)]
    for process in remaining:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(remaining, timeout=grace)
    return ended


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _recorded(record: Path) -> psutil.Process | None:
    """Return the process of a record; None when it has ended, even if its pid belongs to another process now."""
    try:
        content = json.loads(record.read_text())
        process = psutil.Process(content["pid"])
        return process if _start_ticks(process.pid) == content["start_ticks"] else None
    except (psutil.NoSuchProcess, OSError, ValueError, KeyError):
        return None


def _start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since the machine started. Raises OSError if it has ended.

    It does not depend on the system's clock, as psutil's `create_time` does. Source: proc_pid_stat(5), field 22.
    """
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[19])


def _marked(data_dir: Path) -> list[psutil.Process]:
    """Return the processes with the marker of this data directory, except this process and its ancestors."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in own and process.environ().get(MARKER) == str(data_dir):
                found.append(process)
    return found
