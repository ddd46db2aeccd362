"""The buckets of the histograms, and every value that a label can have.

All series exist from the start with the value 0, because PromQL's `increase` does not count the first event of a series
that starts with it: an alert on the first dead letter would not fire. No label value depends on a generation or user.
`tests/metrics/` checks real runs against these lists.
"""

from itertools import product
from typing import Final

from handlers import errors
from handlers.media import Kind
from handlers.pipeline import STEPS
from handlers.sources import SOURCES
from handlers.sources.refusals import Refusal
from schemas.jobs import Queue

WEBHOOK_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5)
STAGE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
JOB_SECONDS: Final = (*STAGE_SECONDS, 900, 1800)
AGE_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
CALLS: Final = (1, 2, 4, 8, 16)

FINAL_OUTCOMES: Final = ("completed", "partial", "failed", "cancelled", "dead_links")
"""Outcomes after which the job has ended. `dead_links`: `outlast adopt` found links that cannot be fetched any more."""
SETTLED_OUTCOMES: Final = (*FINAL_OUTCOMES, "duplicate", "undecodable", "requeued")
"""Outcomes after which the delivery is settled. `requeued`: the job was published again at shutdown."""
UNSETTLED_OUTCOMES: Final = ("retried", "retried_uncounted", "busy", "early", "lost", "redelivered", "crashed")
"""Outcomes after which the job is still in flight.

`retried_uncounted`: a dependency is unavailable, so the attempt does not count; `busy`: another worker has the lease;
`early`: before `not_before`; `lost`: this worker lost the lease; `redelivered`: the channel closed first; `crashed`: an
unexpected exception.
"""
CODES: Final = (
    errors.FileProcessingError.default_code,
    *sorted(kind.default_code for kind in errors.FileProcessingError.__subclasses__()),
    *("unexpected", "disk_full", "decoder_crashed", "decoder_failed", "timed_out", "soft_timeout"),
    *("no_files", "not_queued", "worker_killed", "message_lost", "undecodable", "newer_version"),
    *("not_forwarded", "not_notified"),
    *Refusal,
)

Values = tuple[tuple[str, ...], ...]


def _all(*values: tuple[str, ...]) -> Values:
    return tuple(product(*values))


SOURCE_NAMES: Final = tuple(source.name for source in SOURCES)

WEBHOOKS: Final = _all(
    SOURCE_NAMES,
    (
        *("accepted", "ignored", "rejected", "closed", "unsupported", "too_large", "aborted", "busy"),
        *("unverifiable", "unreadable", "unavailable", "error"),
    ),
)
SOURCE: Final = _all(SOURCE_NAMES)
QUEUES: Final = _all(tuple(Queue))
JOBS: Final = _all(tuple(Queue), (*SETTLED_OUTCOMES, *UNSETTLED_OUTCOMES))
CODE: Final = _all(CODES)
FILES: Final = _all((*Kind, "unknown"), ("stored", "deduplicated", "skipped", "failed", "retried"))
STAGES: Final = _all(tuple(step.__name__ for step in STEPS))
DENIALS: Final = _all(tuple(errors.DenialReason))
STORAGE: Final = _all(
    ("upload", "upload_open", "upload_part", "upload_offset", "info", "download", "remove", "bucket"),
    ("ok", "duplicate", "missing", "rejected", "unavailable"),
)
RESTARTS: Final = _all(("crashed", "timeout", "invalid_answer"))
DEPENDENCIES: Final = _all(("database", "storage", "disk"))
