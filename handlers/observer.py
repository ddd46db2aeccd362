"""Typed hooks that the pipeline calls; the domain code does not know Prometheus.

`worker/observability/metrics.py` implements Observer for Prometheus. `worker/consume/attempt_log.py` implements
AttemptHooks for the log line and the spans of one attempt.
"""

from contextlib import AbstractContextManager, nullcontext


class Observer:
    """What can be watched; this one watches nothing. Sizes in bytes, durations in seconds; labels have few values."""

    def stage(self, stage: str, seconds: float) -> None:
        """Note that a pipeline step ran, well or not."""

    def file(self, media: str, outcome: str) -> None:
        """Note that a file ended: `outcome` is stored, deduplicated, failed or retried."""

    def error(self, code: str) -> None:
        """Note that a file, or a job, met an error of this code."""

    def downloaded(self, size: int) -> None:
        """Count bytes received from sources."""

    def stored(self, size: int, saved: int) -> None:
        """Count bytes stored, and those compression saved."""

    def denied(self, reason: str) -> None:
        """Note that a source URL was refused by this rule: one of `handlers.errors.DenialReason`."""

    def storage(self, operation: str, outcome: str) -> None:
        """Note a request to Storage: `outcome` is ok, duplicate, missing, rejected or unavailable."""

    def codec_restarted(self, reason: str) -> None:
        """Note that a codec process ended before its answer and is replaced: it crashed, or met its timeout."""


class AttemptHooks:
    """What follows the files of one attempt from step to step; this one looks away.

    What a step raises passes through its context.
    """

    def file(self, position: int) -> AbstractContextManager[None]:  # noqa: ARG002 - for those who look
        """Enter for as long as the file of this position is worked on."""
        return nullcontext()

    def step(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002 - the same
        """Enter for as long as a step of the pipeline runs."""
        return nullcontext()
