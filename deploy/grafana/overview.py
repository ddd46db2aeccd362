"""Overview: is anything wrong, and where to look next."""

from typing import Final

from deploy.grafana.board import DEAD, INTAKE, OVERVIEW, PIPELINE, board
from deploy.grafana.panels import NO_LIMIT, About, Limits, Query, course, figure, spread
from deploy.grafana.queries import (
    DEAD_QUEUE,
    ENDED,
    WORK_QUEUES,
    latest_sweep,
    or_zero,
    own,
    quantile,
    queue,
    rate,
    share,
)

BUSY_STATE: Final = 'state="busy"'
AGE: Final = Limits(60, 600)
CIRCUITS: Final = f"sum(max by (dependency) ({own('circuit_open')}))"
FAILED: Final = share(
    rate("jobs_total", matching='outcome=~"failed|partial"'), rate("jobs_total", matching=f'outcome=~"{ENDED}"')
)
SAVED: Final = share(rate("bytes_saved_total"), f"({rate('bytes_saved_total')} + {rate('bytes_stored_total')})")
KNOWN: Final = share(rate("deduplicated_files_total"), rate("files_total", matching='outcome=~"stored|deduplicated"'))
BUSY: Final = share(f"sum({own('codec_processes', BUSY_STATE)})", f"sum({own('codec_processes')})")

NOW: Final = (
    figure(
        About("Processes", "Receivers and workers that Prometheus hears of. Red: none at all.", "short"),
        or_zero(f"count({own('build_info')})"),
        Limits(2, 1, rising=False),
    ),
    figure(
        About(
            "Waiting jobs", "Jobs in the work queues that no worker has taken yet, as RabbitMQ counts them.", "short"
        ),
        queue("messages_ready", WORK_QUEUES, by=""),
        Limits(100, 1000),
        leads_to=PIPELINE,
    ),
    figure(
        About("Event to stored", "95 of 100 jobs had their files stored within this time of the event.", "s"),
        quantile(0.95, "job_age_seconds"),
        AGE,
        leads_to=PIPELINE,
    ),
    figure(
        About("Jobs that failed", "Share of ended jobs that ended `failed` or `partial`.", "percentunit"),
        FAILED,
        Limits(0.01, 0.05),
        leads_to=DEAD,
    ),
    figure(
        About(
            "Dead letters", "Messages that stand in `outlast.dead` until somebody replays or discards them.", "short"
        ),
        queue("messages", DEAD_QUEUE, by=""),
        Limits(1, 100),
        leads_to=DEAD,
    ),
    figure(
        About("Dependencies away", "Database, Storage, TEMP_DIR: while one is away, workers take no jobs.", "short"),
        or_zero(CIRCUITS),
        Limits(bad=1),
        leads_to=DEAD,
    ),
    figure(
        About("Unreconciled", "Generations the last sweep found that nobody had brought home: lost webhooks.", "short"),
        latest_sweep("unreconciled_generations"),
        Limits(1, 20),
        leads_to=INTAKE,
    ),
    figure(About("Saved", "Share of the bytes of new objects that compression saved.", "percentunit"), SAVED, NO_LIMIT),
)

SIGNALS: Final = (
    course(
        About("Latency: event to stored", "From the event to its files being stored; retries and waiting count.", "s"),
        [Query(quantile(part, "job_age_seconds"), f"{part:.0%} within") for part in (0.5, 0.95, 0.99)],
        AGE,
    ),
    course(
        About(
            "Traffic", "What comes in and what goes out, per second. The first above the second: work piles up.", "ops"
        ),
        [
            Query(or_zero(rate("webhooks_total", matching='outcome="accepted"')), "webhooks accepted"),
            Query(or_zero(rate("jobs_total", matching=f'outcome=~"{ENDED}"')), "jobs ended"),
        ],
    ),
    course(
        About("Errors", "Errors of files and jobs by code, per second; deploy/README.md says what each means.", "ops"),
        [Query(rate("errors_total", "code"), "{{code}}")],
        Limits(0.1, 1),
        stacked=True,
    ),
    course(
        About(
            "Saturation",
            "How much of what is limited is in use; at 100 % things queue, or the broker blocks.",
            "percentunit",
        ),
        [
            Query(
                BUSY,
                "codec processes",
            ),
            Query(
                "max(rabbitmq_process_resident_memory_bytes / rabbitmq_resident_memory_limit_bytes)", "broker's memory"
            ),
            Query(
                "max(rabbitmq_disk_space_available_limit_bytes / rabbitmq_disk_space_available_bytes)", "broker's disk"
            ),
        ],
        Limits(0.8, 0.95),
    ),
)

BACKLOG: Final = (
    course(
        About("Backlog by queue", "Jobs waiting for a worker, as RabbitMQ counts them.", "short"),
        [Query(queue("messages_ready", WORK_QUEUES), "{{queue}}")],
        Limits(100, 1000),
        stacked=True,
        span=8,
    ),
    course(
        About(
            "In work",
            "Jobs a worker has taken and not yet settled, by queue; and what workers say themselves.",
            "short",
        ),
        [
            Query(queue("messages_unacked", WORK_QUEUES), "{{queue}}"),
            Query(f"sum({own('jobs_in_progress')})", "as workers count"),
        ],
        span=8,
    ),
    spread(
        About("Age when stored", "How long after the event files were stored: jobs per second, by age.", "s"),
        rate("job_age_seconds_bucket", "le"),
        AGE,
        span=8,
    ),
)

GAIN: Final = (
    course(
        About("Files", "Files that ended an attempt, by outcome, per second.", "ops"),
        [Query(rate("files_total", "outcome"), "{{outcome}}")],
        stacked=True,
        span=8,
    ),
    course(
        About("Bytes", "Received from sources, written as new objects, and saved by compression.", "Bps"),
        [
            Query(rate("bytes_downloaded_total"), "downloaded"),
            Query(rate("bytes_stored_total"), "stored"),
            Query(rate("bytes_saved_total"), "saved"),
        ],
        span=8,
    ),
    course(
        About("Savings", "Share of bytes compression saved, and of files that were stored already.", "percentunit"),
        [Query(SAVED, "bytes saved"), Query(KNOWN, "files known already")],
        span=8,
    ),
)

DASHBOARD: Final = board(
    OVERVIEW,
    "Overview",
    "Latency, traffic, errors and saturation; what waits; what it gains. Begin here.",
    {"Now": NOW, "Golden signals": SIGNALS, "Backlog and age": BACKLOG, "Throughput and savings": GAIN},
)
