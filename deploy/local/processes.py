"""Child processes that never outlive their stack, not even when the stack's own process is killed.

Every child runs in a session of its own and carries MARKER=<data directory> in its environment, which its
descendants inherit; a record under `<data_dir>/run/` says how it likes to be stopped. What a crashed stack left
behind is found by these and ended when the next stack starts in the same data directory.
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
_ports = itertools.cycle(random.sample(PORTS, len(PORTS)))  # none twice, and another order in each process


class StackError(RuntimeError):
    """The local stack cannot run; the message says why and what to do."""


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nothing listened on a moment ago.

    It lies below Linux's ephemeral ports (32768 and up), so that no connection takes it before the caller listens.
    """
    for port in itertools.islice(_ports, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StackError(f"no TCP port of 127.0.0.1 from {PORTS[0]} to {PORTS[-1]} is free: end what listens on them")


@dataclass(frozen=True)
class Child:
    """A running child process; `log` holds all it printed."""

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
        """Start `argv` with exactly `env` (else this process's own) plus the marker; it prints to `log/<name>.log`."""
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
            created = psutil.Process(process.pid).create_time()
        except psutil.NoSuchProcess:
            raise StackError(f"{name} ended at once:\n{_tail(log, 15)}") from None
        record.write_text(json.dumps({"pid": process.pid, "created": created, "signal": int(stop_signal)}))
        return cls(name, process, log, record, stop_signal)

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.returncode is None

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log, for an error message."""
        return _tail(self.log, lines)

    async def answers(self, url: str, seconds: float) -> None:
        """Wait until `url` answers 200; StackError with the log's end when the child dies or takes too long."""
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
        """End the process and its whole group: politely first, after `grace` seconds or when cancelled by force."""
        if not self.running and not self.record.exists():
            return  # stopped before: its number may be a stranger's by now
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


async def together(*parts: Coroutine[Any, Any, object]) -> None:
    """Await all at once; when one fails, cancel the others and raise its own error, which says what to do."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except BaseExceptionGroup as failures:
        told = [error for error in failures.exceptions if isinstance(error, StackError)]
        raise (told or failures.exceptions)[0] from None


def claim(data_dir: Path) -> TextIO:
    """Take the data directory for this process, or raise StackError when another stack runs in it."""
    (data_dir / "run").mkdir(parents=True, exist_ok=True)
    lock = (data_dir / "run" / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StackError(f"Another stack already runs in {data_dir}. Stop it, or choose another --data-dir.") from None
    return lock


def ended(data_dir: Path) -> dict[str, str]:
    """Return what ended without being stopped: the name of each child with the end of its log."""
    records = sorted((data_dir / "run").glob("*.json"))
    gone = [record.stem for record in records if _recorded(record) is None]
    return {name: _tail(data_dir / "log" / f"{name}.log") for name in gone}


def clean_up(data_dir: Path, grace: float = 10.0) -> list[str]:
    """End whatever a crashed stack left running in `data_dir`; return the names of what was ended.

    Call it only while holding the claim: everything that carries our marker is then a leftover.
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
    strays = [*leftovers, *_marked(data_dir)]
    for process in strays:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(strays, timeout=grace)
    return ended


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _recorded(record: Path) -> psutil.Process | None:
    """Return the process a record tells of, if it still is that very process."""
    try:
        content = json.loads(record.read_text())
        process = psutil.Process(content["pid"])
        return process if process.create_time() == content["created"] else None
    except (psutil.NoSuchProcess, ValueError, KeyError):
        return None


def _marked(data_dir: Path) -> list[psutil.Process]:
    """Return the processes whose environment names this data directory, ourselves and our ancestors excepted."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in own and process.environ().get(MARKER) == str(data_dir):
                found.append(process)
    return found
