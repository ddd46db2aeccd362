"""The circuit breaker: while what every job needs is away, take no jobs instead of spending their attempts.

A failure that speaks of an outage is checked by a probe at once. When the probe fails too, no job is to blame: the
circuit opens, consuming pauses, and the job waits without losing an attempt. Probes, ever further apart, find out when
to go on. Where probes succeed and yet one job after the other fails (a Storage that can be read, not written), TRIPS
failures in a row open it as well; the first failure after such a pause counts, so that a job which itself is the
trouble still comes to an end.
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
"""Raises a FileProcessingError while the dependency is away."""


@dataclass(slots=True, eq=False)
class Dependency:
    """Something all jobs need: its `name`, the error `code` that tells of its absence, and how to ask for it."""

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
    """Watches over the dependencies of one worker."""

    def __init__(self, dependencies: Sequence[Dependency], metrics: Metrics) -> None:
        self._dependencies = tuple(dependencies)
        self._metrics = metrics
        self._opened = asyncio.Event()

    async def is_outage(self, code: str) -> bool:
        """Whether a failure with this code is an outage's doing, and so costs its job no attempt."""
        found = next((dependency for dependency in self._dependencies if dependency.code == code), None)
        if found is None:
            return False
        async with found.lock:
            if found.down_since is not None:
                return True
            found.failures += 1
            if found.half_open or found.failures >= FAILURES_TO_OPEN:
                self._open(found, f"{found.failures} failures in a row")
                return False
            if await _answers(found):
                return False
            self._open(found, found.reason)
            return True

    def record_success(self, code: str) -> None:
        """Note that what this code would tell the absence of has done its part."""
        for dependency in self._dependencies:
            if dependency.code == code and dependency.down_since is None:
                dependency.failures, dependency.half_open, dependency.pause = 0, False, FIRST_PAUSE_SECONDS

    def problem(self, name: str) -> str | None:
        """Say since when a dependency has been away, for readiness; None when it is there."""
        for dependency in self._dependencies:
            if dependency.name == name and dependency.down_since is not None:
                seconds = time.monotonic() - dependency.down_since
                return f"away for {seconds:.0f} s, no jobs are taken: {dependency.reason}"
        return None

    async def watch(self, pause: Callable[[], Awaitable[None]], resume: Callable[[], Awaitable[None]]) -> None:
        """Pause whenever the circuit opens, probe until all is back, resume; without end."""
        while True:
            await self._opened.wait()
            await pause()
            while away := [dependency for dependency in self._dependencies if dependency.down_since is not None]:
                await asyncio.sleep(min(dependency.pause for dependency in away))
                await asyncio.gather(*(self._ask_again(dependency) for dependency in away))
            self._opened.clear()
            await resume()

    async def _ask_again(self, dependency: Dependency) -> None:
        dependency.pause = min(dependency.pause * 2, LONGEST_PAUSE_SECONDS)
        if await _answers(dependency):
            dependency.down_since, dependency.half_open = None, True
            self._metrics.circuit_open.labels(dependency.name).set(0)
            log.info("circuit closed: jobs are taken again", dependency=dependency.name)

    def _open(self, dependency: Dependency, reason: str) -> None:
        dependency.down_since, dependency.reason, dependency.failures = time.monotonic(), reason, 0
        self._metrics.circuit_open.labels(dependency.name).set(1)
        self._opened.set()
        log.warning("circuit open: no jobs are taken", dependency=dependency.name, reason=reason)


async def _answers(dependency: Dependency) -> bool:
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
