"""CPU seconds and memory of a process tree, counting shared pages once."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import psutil

EVERY_SECONDS = 0.5
MIB = 1 << 20


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its descendants, including those that ended."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process and its descendants, in MiB. For workers, only root may read it."""
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / MIB


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


@dataclass
class Meter:
    """Samples the memory of process trees within its context; `peak` and `samples` are MiB of PSS of all together."""

    pids: Sequence[int]

    def __post_init__(self) -> None:
        self.samples: list[float] = []
        self._watching: asyncio.Task[None] | None = None

    @property
    def peak(self) -> float:
        """The largest sample."""
        return max(self.samples, default=0.0)

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self.samples.append(await asyncio.to_thread(lambda: sum(map(pss_mib, self.pids))))
            await asyncio.sleep(EVERY_SECONDS)
