"""Workers and the receiver as child processes that are started, killed and terminated."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.processes import Child, free_port

READY_SECONDS = 60.0
STOP_SECONDS = 40.0
RETRY_DELAYS = (1, 2, 4)
FAST = {
    "RETRY_DELAYS": ",".join(map(str, RETRY_DELAYS)),
    "MAX_ATTEMPTS": "12",
    "TASK_TIMEOUT_MINUTES": "0.5",
    "RECONCILE_EVERY_SECONDS": "3",
    "WORKER_CONCURRENCY": "4",
    "CODEC_PROCESSES": "1",
    "STORAGE_TIMEOUT_SECONDS": "10",
    "SHUTDOWN_GRACE_SECONDS": "10",
    "LOG_FORMAT": "json",
}

BATCH_SOON = """
from handlers.database import batched_calls
from worker.cli.main import main
batched_calls.BATCH_FROM_PENDING = 1
main()
"""
"""The `outlast` command. It batches calls while one request is pending, so that few jobs suffice for batches."""


class Fleet:
    """Runs workers and a receiver in `folder` with `environment`. `exited` lists all processes that have ended."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.workers: list[Child] = []
        self.receiver: Child | None = None
        self.exited: list[Child] = []
        self.exit_errors: list[str] = []
        self.receiver_port = free_port()
        self._folder = folder
        self._environment = {**environment, **FAST}
        self._children: list[Child] = []
        self._numbers = itertools.count(1)

    async def start_worker(self, *, wait: bool = False) -> Child:
        """Start one more worker."""
        port = free_port()
        child = await self._spawn("worker", {"METRICS_PORT": str(port)})
        self.workers.append(child)
        if wait:
            await child.wait_until_ready(f"http://127.0.0.1:{port}/readyz", READY_SECONDS)
        return child

    async def start_receiver(self, *, wait: bool = False) -> None:
        """Start the receiver on the same port as before."""
        self.receiver = await self._spawn("receiver", {"RECEIVER_PORT": str(self.receiver_port)})
        if wait:
            await self.receiver.wait_until_ready(f"http://127.0.0.1:{self.receiver_port}/readyz", READY_SECONDS)

    async def terminate(self, child: Child) -> None:
        """Send SIGTERM; record an exit code other than 0 or a missing exit in `exit_errors`.

        A process that has logged nothing is still importing modules, and ends by the signal itself.
        """
        self._remove(child)
        with contextlib.suppress(ProcessLookupError):  # it has already ended; its exit code is checked below
            child.process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(child.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self.exit_errors.append(f"{child.name} did not end within {STOP_SECONDS:g} s of SIGTERM")
            await child.stop(0)
        else:
            if code and not (code == -signal.SIGTERM and not child.tail(1)):
                self.exit_errors.append(f"{child.name} ended with {code} after SIGTERM")

    async def kill(self, child: Child) -> None:
        """Send SIGKILL to the process alone, as the kernel's out-of-memory killer does."""
        self._remove(child)
        with contextlib.suppress(ProcessLookupError):
            child.process.kill()
        await child.process.wait()

    async def replace_exited(self) -> None:
        """Replace every process that ended on its own, and record it in `exit_errors`."""
        running = [*self.workers, *([self.receiver] if self.receiver else [])]
        for child in [child for child in running if not child.running]:
            self.exit_errors.append(f"{child.name} ended by itself, {child.process.returncode}:\n{child.tail(3)}")
            was_worker = child in self.workers
            self._remove(child)
            await (self.start_worker() if was_worker else self.start_receiver())

    async def stop(self) -> None:
        """Stop all processes, including children of killed ones."""
        await asyncio.gather(*(child.stop(20) for child in self._children))

    def _remove(self, child: Child) -> None:
        if child in self.workers:
            self.workers.remove(child)
        elif child is self.receiver:
            self.receiver = None
        self.exited.append(child)

    async def _spawn(self, command: str, more: Mapping[str, str]) -> Child:
        child = await Child.spawn(
            f"{command}-{next(self._numbers)}",
            [sys.executable, "-c", BATCH_SOON, command],
            data_dir=self._folder,
            env={**os.environ, **self._environment, **more},
            cwd=self._folder,
        )
        self._children.append(child)
        return child
