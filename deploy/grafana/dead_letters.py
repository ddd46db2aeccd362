"""The dashboard for dead letters and retries: errors, jobs that wait for a retry, and jobs that are not retried."""

from typing import Final

from deploy.grafana.dashboard import DEAD, build_dashboard
from deploy.grafana.panels import PanelQuery, PanelText, Thresholds, stat_panel, state_timeline, time_series
from deploy.grafana.queries import (
    DEAD_QUEUE,
    RETRY_QUEUES,
    latest_sweep,
    or_zero,
    per_minute,
    queue,
    rate,
    ratio,
    selector,
)

OF_CODE: Final = "code=${__field.labels.code}&since=${__from:date:iso}"
"""The filter of the console for the code of a series, in the time range of the dashboard."""
DEAD_LETTER_THRESHOLDS: Final = Thresholds(1, 100)

NOW: Final = (
    stat_panel(
        PanelText("Dead letters", "Messages in `outlast.dead`. `outlast dead groups` shows the reasons.", "short"),
        queue("messages", DEAD_QUEUE, by=""),
        DEAD_LETTER_THRESHOLDS,
        console="/dead",
        span=6,
    ),
    stat_panel(
        PanelText("New in the last hour", "Messages that became dead letters in the last hour.", "short"),
        f"sum(increase({selector('dead_letters_total')}[1h])) or vector(0)",
        DEAD_LETTER_THRESHOLDS,
        console="/dead/letters?since=1h",
        span=6,
    ),
    stat_panel(
        PanelText("Waiting for a retry", "Jobs in the retry queues, counted by RabbitMQ.", "short"),
        queue("messages_ready", RETRY_QUEUES, by=""),
        Thresholds(50, 500),
        console="/tasks?status=retrying",
        span=6,
    ),
    stat_panel(
        PanelText("Retried attempts", "Share of deliveries that ended with a retry.", "percentunit"),
        ratio(rate("jobs_total", matching='outcome="retried"'), rate("jobs_total")),
        Thresholds(0.05, 0.25),
        span=6,
    ),
)

DEAD_LETTERS: Final = (
    time_series(
        PanelText(
            "Dead letters in the queue",
            "Messages in `outlast.dead`. The number falls when dead letters are replayed or discarded.",
            "short",
        ),
        [PanelQuery(queue("messages", DEAD_QUEUE), "{{queue}}")],
        DEAD_LETTER_THRESHOLDS,
        span=8,
    ),
    time_series(
        PanelText("New dead letters", "Messages that became dead letters per minute, by error code.", "short"),
        [PanelQuery(per_minute("dead_letters_total", "code"), "{{code}}")],
        Thresholds(1, 10),
        stacked=True,
        console=f"/dead/letters?{OF_CODE}",
        span=8,
    ),
    time_series(
        PanelText("Replays", "Dead letters replayed with the receiver's API per minute.", "short"),
        [PanelQuery(per_minute("dead_letters_replayed_total"), "replayed")],
        span=8,
    ),
)

RETRIES: Final = (
    time_series(
        PanelText("Retries", "Jobs scheduled for a retry per minute, by error code.", "short"),
        [PanelQuery(per_minute("retries_total", "code"), "{{code}}")],
        Thresholds(10, 60),
        stacked=True,
        console=f"/tasks?{OF_CODE}",
    ),
    time_series(
        PanelText(
            "Waiting jobs by delay",
            "Jobs in each retry queue. The name of the queue has the delay in seconds.",
            "short",
        ),
        [PanelQuery(queue("messages_ready", RETRY_QUEUES), "{{queue}}")],
        Thresholds(50, 500),
        stacked=True,
    ),
)

CAUSES: Final = (
    time_series(
        PanelText("Errors", "Errors of files and jobs per minute, by error code.", "short"),
        [PanelQuery(per_minute("errors_total", "code"), "{{code}}")],
        Thresholds(6, 60),
        stacked=True,
        console=f"/tasks?{OF_CODE}",
    ),
    state_timeline(
        PanelText(
            "Unavailable dependencies",
            "Red while a worker takes no jobs because this dependency is unavailable.",
            "bool_on_off",
        ),
        PanelQuery(f"max by (dependency) ({selector('circuit_open')})", "{{dependency}}"),
        Thresholds(bad=1),
    ),
)

MAINTENANCE: Final = (
    time_series(
        PanelText(
            "Unreconciled",
            "Completed generations without media, and tasks that never ended, found by the last sweep.",
            "short",
        ),
        [PanelQuery(latest_sweep("unreconciled_generations"), "generations and tasks")],
        Thresholds(1, 20),
        span=8,
    ),
    time_series(
        PanelText(
            "Oldest unreconciled",
            "Age of the oldest generation or task that the last sweep found. Source links expire after some hours.",
            "s",
        ),
        [PanelQuery(latest_sweep("oldest_unreconciled_seconds"), "oldest")],
        Thresholds(900, 3600),
        span=8,
    ),
    time_series(
        PanelText("Objects removed", "Objects without references that were removed from Storage per minute.", "short"),
        [PanelQuery(or_zero(per_minute("objects_removed_total")), "removed")],
        span=8,
    ),
)

DASHBOARD: Final = build_dashboard(
    DEAD,
    "Dead letters and retries",
    "Errors, jobs that wait for a retry, and dead letters that wait for a decision.",
    {
        "Now": NOW,
        "Dead letters": DEAD_LETTERS,
        "Retries": RETRIES,
        "Errors and dependencies": CAUSES,
        "Sweep and maintenance": MAINTENANCE,
    },
)
