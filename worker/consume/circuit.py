"""The circuit breaker: while something that every job needs is unavailable, the worker takes no jobs.

After a failure whose code means an outage, a probe checks the dependency at once. If the probe fails too, the circuit
opens: consuming pauses, and the job is retried without counting the attempt. Probes at growing intervals find out when
the dependency is back. Where probes succeed and jobs still fail (a Storage that can be read but not written),
FAILURES_TO_OPEN failures in a row open the circuit as well. After a pause the circuit is half open: the next failure
opens it at once and counts as an attempt, so that a job that causes the failures itself runs out of attempts.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from handlers.errors import FileProcessingError
from worker.observability.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)
FAILURES_TO_OPEN: Final = 5
PROBE_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0

Probe = Callable[[], Awaitable[object]]
"""Raises a FileProcessingError while the dependency is unavailable."""


@dataclass(slots=True, eq=False)
class Dependency:
    """Something that all jobs need. `code` is the error code of its outage; `pause`: seconds until the next probe."""

    name: str
    code: str
    probe: Probe
    failures: int = 0
    pause: float = FIRST_PAUSE_SECONDS
    down_since: float | None = None
    half_open: bool = False
    reason: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Circuit:
    """The circuit breaker of one worker, for all of its dependencies."""

    def __init__(self, dependencies: Sequence[Dependency], metrics: Metrics) -> None:
        self._dependencies = tuple(dependencies)
        self._metrics = metrics
        self._opened = asyncio.Event()

    async def record_failure(self, code: str) -> bool:
        """Record a failure. Return True if an outage caused it, so that the attempt must not count."""
        dependency = next((dependency for dependency in self._dependencies if dependency.code == code), None)
        if dependency is None:
            return False
        async with dependency.lock:
            if dependency.down_since is not None:
                return True
            dependency.failures += 1
            if dependency.half_open or dependency.failures >= FAILURES_TO_OPEN:
                self._open(dependency, f"{dependency.failures} failures in a row")
                return False
            if await _probe(dependency):
                return False
            self._open(dependency, dependency.reason)
            return True

    def record_success(self, code: str) -> None:
        """Record that the dependency with this error code worked."""
        for dependency in self._dependencies:
            if dependency.code == code and dependency.down_since is None:
                dependency.failures, dependency.half_open, dependency.pause = 0, False, FIRST_PAUSE_SECONDS

    def problem(self, name: str) -> str | None:
        """Return since when and why a dependency is unavailable, or None if it is available."""
        for dependency in self._dependencies:
            if dependency.name == name and dependency.down_since is not None:
                seconds = time.monotonic() - dependency.down_since
                return f"unavailable for {seconds:.0f} s, no jobs are taken: {dependency.reason}"
        return None

    async def watch(self, pause: Callable[[], Awaitable[None]], resume: Callable[[], Awaitable[None]]) -> None:
        """Pause when the circuit opens, probe until all dependencies are available, resume. Runs until cancelled."""
        while True:
            await self._opened.wait()
            await pause()
            while down := [dependency for dependency in self._dependencies if dependency.down_since is not None]:
                await asyncio.sleep(min(dependency.pause for dependency in down))
                await asyncio.gather(*(self._probe_again(dependency) for dependency in down))
            self._opened.clear()
            await resume()

    async def _probe_again(self, dependency: Dependency) -> None:
        dependency.pause = min(dependency.pause * 2, LONGEST_PAUSE_SECONDS)
        if await _probe(dependency):
            dependency.down_since, dependency.half_open = None, True
            self._metrics.circuit_open.labels(dependency.name).set(0)
            log.info("circuit closed: jobs are taken again", dependency=dependency.name)

    def _open(self, dependency: Dependency, reason: str) -> None:
        dependency.down_since, dependency.reason, dependency.failures = time.monotonic(), reason, 0
        self._metrics.circuit_open.labels(dependency.name).set(1)
        self._opened.set()
        log.warning("circuit open: no jobs are taken", dependency=dependency.name, reason=reason)


async def _probe(dependency: Dependency) -> bool:
    """Return whether the dependency is available; if not, set its `reason`."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await dependency.probe()
    except TimeoutError:
        dependency.reason = f"no answer within {PROBE_SECONDS:g} s"
    except FileProcessingError as error:
        dependency.reason = str(error)
    else:
        return True
    return False
