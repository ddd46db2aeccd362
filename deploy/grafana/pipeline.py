"""Pipeline: where the time of a file goes, step by step."""

from typing import Final

from deploy.grafana.board import PIPELINE, board
from deploy.grafana.panels import About, Limits, Query, course, spread
from deploy.grafana.queries import own, per_minute, quantile, rate, share
from handlers.pipeline import STEPS

TEXTS: Final = {
    "download": "Fetching from the source to disk, hashed on the way. Slow here: the source, or the way to it.",
    "detect": "Finding the type from the content.",
    "recall": "Asking whether this user has the file already.",
    "prepare": "Decoding, checking and compressing in a codec process, and waiting for one to be free.",
    "upload": "Writing to Storage.",
}
STAGE: Final = Limits(10, 60)

STAGES: Final = tuple(
    spread(
        About(f"Step: {step.__name__}", f"{TEXTS[step.__name__]} Files per second, by how long it took.", "s"),
        rate("stage_duration_seconds_bucket", "le", f'stage="{step.__name__}"'),
        STAGE,
        span=8,
    )
    for step in STEPS
)
TIME: Final = course(
    About("Where the time goes", "Seconds spent in each step per second, over all files at once.", "s"),
    [Query(rate("stage_duration_seconds_sum", "stage"), "{{stage}}")],
    stacked=True,
    span=8,
)

DURATIONS: Final = (
    course(
        About("Slowest steps", "95 of 100 runs of the step took no longer.", "s"),
        [Query(quantile(0.95, "stage_duration_seconds", "stage"), "{{stage}}")],
        STAGE,
        span=8,
    ),
    course(
        About("Jobs: duration", "95 of 100 deliveries were worked on no longer, by queue.", "s"),
        [Query(quantile(0.95, "job_duration_seconds", "queue"), "{{queue}}")],
        Limits(300, 1500),
        span=8,
    ),
    course(
        About("Jobs: outcome", "Deliveries handled, by how they ended, per second.", "ops"),
        [Query(rate("jobs_total", "outcome"), "{{outcome}}")],
        stacked=True,
        span=8,
    ),
)

CODECS: Final = (
    course(
        About(
            "Codec processes",
            "Processes that decode and encode. All busy for long: CODEC_PROCESSES, or cores.",
            "short",
        ),
        [Query(f"sum by (state) ({own('codec_processes')})", "{{state}}")],
        stacked=True,
        span=8,
    ),
    course(
        About("Codec restarts", "Codec processes that crashed or hung and were replaced, per minute.", "short"),
        [Query(per_minute("codec_restarts_total", "reason"), "{{reason}}")],
        Limits(1, 10),
        span=8,
    ),
    course(
        About("Media", "Files that ended an attempt, by kind, per second.", "ops"),
        [Query(rate("files_total", "media"), "{{media}}")],
        stacked=True,
        span=8,
    ),
)

TRANSFER: Final = (
    course(
        About("Downloads", "Bytes received from sources, per second.", "Bps"),
        [Query(rate("bytes_downloaded_total"), "downloaded"), Query(rate("bytes_stored_total"), "stored")],
        span=6,
    ),
    course(
        About(
            "Sources that fail",
            "Downloads that failed, by code, per minute. `source_gone`: links had expired.",
            "short",
        ),
        [Query(per_minute("errors_total", "code", 'code=~"source_.*|size_exceeded"'), "{{code}}")],
        Limits(1, 10),
        stacked=True,
        span=6,
    ),
    course(
        About("Storage requests", "Requests to Storage, by operation, per second.", "ops"),
        [Query(rate("storage_requests_total", "operation"), "{{operation}}")],
        span=6,
    ),
    course(
        About("Storage that fails", "Share of requests to Storage it rejected or was not there for.", "percentunit"),
        [
            Query(
                share(rate("storage_requests_total", matching=f'outcome="{outcome}"'), rate("storage_requests_total")),
                outcome,
            )
            for outcome in ("rejected", "unavailable")
        ],
        Limits(0.01, 0.05),
        span=6,
    ),
)

DASHBOARD: Final = board(
    PIPELINE,
    "Pipeline",
    "Where the time of a file goes: steps, codec processes, downloads, Storage.",
    {
        "Steps": (*STAGES, TIME),
        "Jobs": DURATIONS,
        "Codecs": CODECS,
        "Downloads and Storage": TRANSFER,
    },
)
