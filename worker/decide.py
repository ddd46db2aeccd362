"""The retry policy, as data: what to do about a failure. Pure; the consumer performs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

UNEXPECTED_ATTEMPTS = 3
"""Attempts for an exception nobody foresaw: it may be a passing fault, it may be a bug that never passes."""
GENERATION_ATTEMPTS = 4
"""Attempts while FAL's request id finds no row: its writer is seconds behind, or never comes."""
FEW = {"unexpected": UNEXPECTED_ATTEMPTS, "generation_not_found": GENERATION_ATTEMPTS}


class Failure(Protocol):
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
class Policy:
    """`delays` in rising seconds, one rung of the ladder each."""

    delays: tuple[int, ...]
    max_attempts: int

    def rung(self, at_least: float) -> int:
        """Return the shortest delay that is no shorter than `at_least`, else the longest there is."""
        return next((delay for delay in self.delays if delay >= at_least), self.delays[-1])


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay` seconds, a rung of the ladder."""

    delay: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Give up, and keep it where people can look at it."""


def decide(failure: Failure, attempt: int, policy: Policy) -> Retry | DeadLetter:
    """Judge one failure of the attempt with this number (from 1).

    The ladder is climbed a rung an attempt; a longer wait that the other side asked for is rounded up to a rung.
    """
    limit = min(policy.max_attempts, FEW.get(failure.code, policy.max_attempts))
    if not failure.retryable or attempt >= limit:
        return DeadLetter()
    step = policy.delays[min(attempt, len(policy.delays)) - 1]
    return Retry(policy.rung(max(step, failure.retry_after or 0)))


def longest(verdicts: Sequence[Retry]) -> int:
    """Return the wait of a message that carries several files: the longest any of them needs, in seconds."""
    return max(verdict.delay for verdict in verdicts)
