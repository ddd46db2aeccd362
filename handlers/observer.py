"""Hooks that the pipeline calls, so that the pipeline does not depend on Prometheus, logs or tracing.

`worker/observability/metrics.py` implements Observer for Prometheus. `worker/consume/progress.py` implements
AttemptHooks for the log line and the spans of one attempt.
"""

from contextlib import AbstractContextManager, nullcontext


class Observer:
    """Is told of events of the pipeline; this base class ignores them. Sizes are in bytes, durations in seconds."""

    def stage(self, stage: str, seconds: float) -> None:
        """A step of the pipeline has ended, with or without an error."""

    def file(self, media: str, outcome: str) -> None:
        """The processing of a file has ended. `outcome`: stored, deduplicated, skipped, failed, retried."""

    def error(self, code: str) -> None:
        """A file or a job has failed with this error code."""

    def downloaded(self, size: int) -> None:
        """`size` bytes have been received from a source."""

    def stored(self, size: int, saved: int) -> None:
        """A new object of `size` bytes has been stored; the source file had `saved` bytes more."""

    def denied(self, reason: str) -> None:
        """A source URL has been refused. `reason` is a value of `handlers.errors.DenialReason`."""

    def storage(self, operation: str, outcome: str) -> None:
        """A request to Storage has ended. `outcome` is ok, duplicate, missing, rejected or unavailable."""

    def called(self, calls: int) -> None:
        """A request with `calls` calls is sent to the database. Only functions that can be batched are reported."""

    def codec_restarted(self, reason: str) -> None:
        """A codec process ended without an answer and is replaced. `reason`: crashed, timeout or invalid_answer."""


class AttemptHooks:
    """Context managers around the files and steps of one attempt; this base class does nothing.

    The context managers do not suppress exceptions.
    """

    def file(self, position: int) -> AbstractContextManager[None]:  # noqa: ARG002 - for subclasses
        """Return a context manager that is active while the file at `position` is processed."""
        return nullcontext()

    def step(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002 - for subclasses
        """Return a context manager that is active while a step of the pipeline runs."""
        return nullcontext()
