"""The retry policy, as data: what to do about a failure. Pure; the consumer performs it."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

UNEXPECTED_ATTEMPTS = 3
"""Attempts for an exception nobody foresaw: it may be a passing fault, it may be a bug that never passes."""
GENERATION_ATTEMPTS = 4
"""Attempts while FAL's request id finds no row: its writer is seconds behind, or never comes."""
JITTER: Final = 0.25
"""Share of jobs that wait on the neighbouring rung, so that what failed together does not return together."""
MAX_ATTEMPTS_BY_CODE: Final = {"unexpected": UNEXPECTED_ATTEMPTS, "generation_not_found": GENERATION_ATTEMPTS}


class JobFailure(Protocol):
    """What must be known of a failure: FailedFile and FileProcessingError both tell it."""

    @property
    def code(self) -> str:
        """Stable word for the kind of failure."""

    @property
    def retryable(self) -> bool:
        """Whether the same may succeed later."""

    @property
    def retry_after(self) -> float | None:
        """Seconds the other side asked us to wait."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`delays` in rising seconds, one rung of the ladder each."""

    delays: tuple[int, ...]
    max_attempts: int

    def delay_at_least(self, at_least: float) -> int:
        """Return the shortest delay that is no shorter than `at_least`, else the longest there is."""
        return next((delay for delay in self.delays if delay >= at_least), self.delays[-1])


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay` seconds, a rung of the ladder."""

    delay: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Give up, and keep it where people can look at it."""


def decide(failure: JobFailure, attempt: int, policy: RetryPolicy, chance: float = 1.0) -> Retry | GiveUp:
    """Judge one failure of the attempt with this number (from 1).

    The ladder is climbed a rung an attempt; `chance`, between 0 and 1, sends a JITTER of all to the next rung (from the
    last one: back to the one before). A longer wait that the other side asked for is rounded up to a rung, never cut.
    """
    limit = min(policy.max_attempts, MAX_ATTEMPTS_BY_CODE.get(failure.code, policy.max_attempts))
    if not failure.retryable or attempt >= limit:
        return GiveUp()
    last = len(policy.delays) - 1
    step = min(attempt - 1, last)
    if chance < JITTER:
        step = step + 1 if step < last else max(0, step - 1)
    return Retry(policy.delay_at_least(max(policy.delays[step], failure.retry_after or 0)))


def stable_random(task_id: UUID, attempt: int) -> float:
    """Draw a number from 0 up to 1 that differs from task to task and attempt to attempt, and is the same next time."""
    return zlib.crc32(task_id.bytes + attempt.to_bytes(4, "big")) / 2**32


def longest_delay(decisions: Sequence[Retry]) -> int:
    """Return the wait of a message that carries several files: the longest any of them needs, in seconds."""
    return max(verdict.delay for verdict in decisions)
