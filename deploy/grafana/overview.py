"""The overview dashboard: whether anything is wrong, with links to the dashboards that have the details."""

from typing import Final

from deploy.grafana.dashboard import DEAD, INTAKE, OVERVIEW, PIPELINE, build_dashboard
from deploy.grafana.panels import (
    NO_THRESHOLDS,
    PanelQuery,
    PanelText,
    Thresholds,
    heatmap_panel,
    stat_panel,
    time_series,
)
from deploy.grafana.queries import (
    DEAD_QUEUE,
    ENDED_OUTCOMES,
    WORK_QUEUES,
    latest_sweep,
    or_zero,
    quantile,
    queue,
    rate,
    ratio,
    selector,
)

BUSY_MATCHER: Final = 'state="busy"'
AGE_THRESHOLDS: Final = Thresholds(60, 600)
OPEN_CIRCUITS: Final = f"sum(max by (dependency) ({selector('circuit_open')}))"
FAILED_JOBS: Final = ratio(
    rate("jobs_total", matching='outcome=~"failed|partial"'),
    rate("jobs_total", matching=f'outcome=~"{ENDED_OUTCOMES}"'),
)
SAVED_BYTES: Final = ratio(rate("bytes_saved_total"), f"({rate('bytes_saved_total')} + {rate('bytes_stored_total')})")
DEDUPLICATED: Final = ratio(
    rate("deduplicated_files_total"), rate("files_total", matching='outcome=~"stored|deduplicated"')
)
BUSY_CODECS: Final = ratio(f"sum({selector('codec_processes', BUSY_MATCHER)})", f"sum({selector('codec_processes')})")

NOW: Final = (
    stat_panel(
        PanelText("Processes", "Receivers and workers that Prometheus scrapes. Red: none.", "short"),
        or_zero(f"count({selector('build_info')})"),
        Thresholds(2, 1, higher_is_worse=False),
    ),
    stat_panel(
        PanelText(
            "Waiting jobs", "Jobs in the work queues that no worker has taken yet, counted by RabbitMQ.", "short"
        ),
        queue("messages_ready", WORK_QUEUES, by=""),
        Thresholds(100, 1000),
        links_to=PIPELINE,
    ),
    stat_panel(
        PanelText(
            "Event to stored (p95)", "95% of jobs have their files stored within this time after the event.", "s"
        ),
        quantile(0.95, "job_age_seconds"),
        AGE_THRESHOLDS,
        links_to=PIPELINE,
    ),
    stat_panel(
        PanelText("Failed jobs", "Share of ended jobs that ended `failed` or `partial`.", "percentunit"),
        FAILED_JOBS,
        Thresholds(0.01, 0.05),
        links_to=DEAD,
    ),
    stat_panel(
        PanelText("Dead letters", "Messages in `outlast.dead`, until somebody replays or discards them.", "short"),
        queue("messages", DEAD_QUEUE, by=""),
        Thresholds(1, 100),
        links_to=DEAD,
    ),
    stat_panel(
        PanelText(
            "Unavailable dependencies",
            "Database, Storage, TEMP_DIR: while one is unavailable, workers take no jobs.",
            "short",
        ),
        or_zero(OPEN_CIRCUITS),
        Thresholds(bad=1),
        links_to=DEAD,
    ),
    stat_panel(
        PanelText(
            "Unreconciled",
            "Completed generations without media that the last sweep found: their webhooks were lost.",
            "short",
        ),
        latest_sweep("unreconciled_generations"),
        Thresholds(1, 20),
        links_to=INTAKE,
    ),
    stat_panel(
        PanelText("Bytes saved", "Share of bytes that compression saved, of all new objects.", "percentunit"),
        SAVED_BYTES,
        NO_THRESHOLDS,
    ),
)

GOLDEN_SIGNALS: Final = (
    time_series(
        PanelText(
            "Latency: event to stored",
            "Time from the event until its files are stored, including retries and waiting.",
            "s",
        ),
        [PanelQuery(quantile(part, "job_age_seconds"), f"{part:.0%} within") for part in (0.5, 0.95, 0.99)],
        AGE_THRESHOLDS,
    ),
    time_series(
        PanelText("Traffic", "Per second. If more webhooks are accepted than jobs end, the backlog grows.", "ops"),
        [
            PanelQuery(or_zero(rate("webhooks_total", matching='outcome="accepted"')), "webhooks accepted"),
            PanelQuery(or_zero(rate("jobs_total", matching=f'outcome=~"{ENDED_OUTCOMES}"')), "jobs ended"),
        ],
    ),
    time_series(
        PanelText(
            "Errors",
            "Errors of files and jobs per second, by error code. deploy/docs/operations.md explains the codes.",
            "ops",
        ),
        [PanelQuery(rate("errors_total", "code"), "{{code}}")],
        Thresholds(0.1, 1),
        stacked=True,
    ),
    time_series(
        PanelText(
            "Saturation",
            "Used share of limited resources. At 100% files wait, or the broker blocks publishers.",
            "percentunit",
        ),
        [
            PanelQuery(
                BUSY_CODECS,
                "codec processes",
            ),
            PanelQuery(
                "max(rabbitmq_process_resident_memory_bytes / rabbitmq_resident_memory_limit_bytes)", "broker memory"
            ),
            PanelQuery(
                "max(rabbitmq_disk_space_available_limit_bytes / rabbitmq_disk_space_available_bytes)", "broker disk"
            ),
        ],
        Thresholds(0.8, 0.95),
    ),
)

BACKLOG: Final = (
    time_series(
        PanelText("Backlog by queue", "Jobs waiting for a worker, counted by RabbitMQ.", "short"),
        [PanelQuery(queue("messages_ready", WORK_QUEUES), "{{queue}}")],
        Thresholds(100, 1000),
        stacked=True,
        span=8,
    ),
    time_series(
        PanelText(
            "Jobs in progress",
            "Jobs that a worker has taken and not settled, counted by RabbitMQ per queue and by the workers in total.",
            "short",
        ),
        [
            PanelQuery(queue("messages_unacked", WORK_QUEUES), "{{queue}}"),
            PanelQuery(f"sum({selector('jobs_in_progress')})", "counted by workers"),
        ],
        span=8,
    ),
    heatmap_panel(
        PanelText("Age when stored", "Time from the event until its files are stored: jobs per second, by age.", "s"),
        rate("job_age_seconds_bucket", "le"),
        AGE_THRESHOLDS,
        span=8,
    ),
)

THROUGHPUT: Final = (
    time_series(
        PanelText("Files", "Files whose attempt ended per second, by outcome.", "ops"),
        [PanelQuery(rate("files_total", "outcome"), "{{outcome}}")],
        stacked=True,
        span=8,
    ),
    time_series(
        PanelText(
            "Bytes", "Bytes per second received from sources, stored as new objects, and saved by compression.", "Bps"
        ),
        [
            PanelQuery(rate("bytes_downloaded_total"), "downloaded"),
            PanelQuery(rate("bytes_stored_total"), "stored"),
            PanelQuery(rate("bytes_saved_total"), "saved"),
        ],
        span=8,
    ),
    time_series(
        PanelText(
            "Savings",
            "Share of bytes saved by compression, and share of files that were stored already.",
            "percentunit",
        ),
        [PanelQuery(SAVED_BYTES, "bytes saved"), PanelQuery(DEDUPLICATED, "files deduplicated")],
        span=8,
    ),
)

DASHBOARD: Final = build_dashboard(
    OVERVIEW,
    "Overview",
    "Start here: latency, traffic, errors, saturation, backlog and savings.",
    {"Now": NOW, "Golden signals": GOLDEN_SIGNALS, "Backlog and age": BACKLOG, "Throughput and savings": THROUGHPUT},
)
