"""The retry policy: decides, without side effects, whether a failure is retried and after which delay."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

UNEXPECTED_ATTEMPTS = 3
"""Attempts after an unexpected exception: it may be a temporary fault or a bug that every attempt meets."""
GENERATION_ATTEMPTS = 4
"""Attempts while no generation has FAL's request id: the row is written seconds later, or never."""
MISSING_ATTEMPTS = 5
"""Attempts while a source says that the file does not exist, or is empty: with the default delays, 13 minutes. FAL may
copy a file into your own bucket after its webhook."""
REJECTED_ATTEMPTS = 3
"""Attempts while the database refuses what is recorded: a trigger of the user may be corrected, or never be."""
JITTER: Final = 0.25
"""Share of jobs that get a neighbouring delay, so that jobs that failed together do not return together."""
MAX_ATTEMPTS_BY_CODE: Final = {
    "unexpected": UNEXPECTED_ATTEMPTS,
    "generation_not_found": GENERATION_ATTEMPTS,
    "source_gone": MISSING_ATTEMPTS,
    "corrupted": MISSING_ATTEMPTS,
    "row_rejected": REJECTED_ATTEMPTS,
}


class JobFailure(Protocol):
    """What the policy reads of a failure: FailedFile and FileProcessingError have these properties."""

    @property
    def code(self) -> str:
        """Stable error code."""

    @property
    def retryable(self) -> bool:
        """Whether a later attempt may succeed."""

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait, as requested by the server that refused; None if it requested nothing."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`delays` are RETRY_DELAYS, in seconds, ascending; there is a retry queue for each."""

    delays: tuple[int, ...]
    max_attempts: int

    def delay_at_least(self, seconds: float) -> int:
        """Return the shortest delay that is at least `seconds`, or the longest delay if all are shorter."""
        return next((delay for delay in self.delays if delay >= seconds), self.delays[-1])


@dataclass(frozen=True, slots=True)
class Retry:
    """Retry after `delay` seconds, one of the policy's delays."""

    delay: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not retry: make it a dead letter."""


def decide(failure: JobFailure, attempt: int, policy: RetryPolicy, chance: float = 1.0) -> Retry | GiveUp:
    """Decide about one failure of the attempt with this number (from 1).

    Each attempt takes the next delay. If `chance` (0 to 1) is below JITTER, it takes the one after that; for the last
    delay, the one before. A longer `retry_after` is rounded up to the next delay, or down to the longest.
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
    """Return a pseudo-random number, at least 0 and below 1, that is always the same for one task and attempt."""
    return zlib.crc32(task_id.bytes + attempt.to_bytes(4, "big")) / 2**32


def longest_delay(decisions: Sequence[Retry]) -> int:
    """Return the delay of a message that carries several files: the longest that any of them needs, in seconds."""
    return max(verdict.delay for verdict in decisions)
