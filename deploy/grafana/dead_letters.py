"""Dead letters and retries: what fails, what waits for another attempt, what stands until somebody decides."""

from typing import Final

from deploy.grafana.board import DEAD, board
from deploy.grafana.panels import About, Limits, Query, course, figure, states
from deploy.grafana.queries import (
    DEAD_QUEUE,
    RETRY_QUEUES,
    latest_sweep,
    or_zero,
    own,
    per_minute,
    queue,
    rate,
    share,
)

STANDING: Final = Limits(1, 100)

NOW: Final = (
    figure(
        About("Dead letters", "Messages that stand in `outlast.dead`: `outlast dead groups` says why.", "short"),
        queue("messages", DEAD_QUEUE, by=""),
        STANDING,
        span=6,
    ),
    figure(
        About("New in the last hour", "Messages put among the dead letters within an hour.", "short"),
        f"sum(increase({own('dead_letters_total')}[1h])) or vector(0)",
        STANDING,
        span=6,
    ),
    figure(
        About("Waiting for another attempt", "Jobs in the retry queues, as RabbitMQ counts them.", "short"),
        queue("messages_ready", RETRY_QUEUES, by=""),
        Limits(50, 500),
        span=6,
    ),
    figure(
        About("Attempts put off", "Share of deliveries that ended in another attempt.", "percentunit"),
        share(rate("jobs_total", matching='outcome="retried"'), rate("jobs_total")),
        Limits(0.05, 0.25),
        span=6,
    ),
)

LETTERS: Final = (
    course(
        About(
            "Dead letters standing",
            "What stands in `outlast.dead`; it falls when letters are replayed or discarded.",
            "short",
        ),
        [Query(queue("messages", DEAD_QUEUE), "{{queue}}")],
        STANDING,
        span=8,
    ),
    course(
        About("New dead letters", "Messages put among the dead letters, by reason, per minute.", "short"),
        [Query(per_minute("dead_letters_total", "code"), "{{code}}")],
        Limits(1, 10),
        stacked=True,
        span=8,
    ),
    course(
        About("Replayed", "Dead letters put back on their queue by the receiver's API, per minute.", "short"),
        [Query(per_minute("dead_letters_replayed_total"), "replayed")],
        span=8,
    ),
)

RETRIES: Final = (
    course(
        About("Retries", "Jobs put off to another attempt, by reason, per minute.", "short"),
        [Query(per_minute("retries_total", "code"), "{{code}}")],
        Limits(10, 60),
        stacked=True,
    ),
    course(
        About("Waiting, by rung", "Jobs in each retry queue; its name has the seconds they wait.", "short"),
        [Query(queue("messages_ready", RETRY_QUEUES), "{{queue}}")],
        Limits(50, 500),
        stacked=True,
    ),
)

CAUSES: Final = (
    course(
        About("Errors", "Errors of files and jobs, by code, per minute.", "short"),
        [Query(per_minute("errors_total", "code"), "{{code}}")],
        Limits(6, 60),
        stacked=True,
    ),
    states(
        About("Dependencies away", "Red while a worker takes no jobs, since this dependency is away.", "bool_on_off"),
        Query(f"max by (dependency) ({own('circuit_open')})", "{{dependency}}"),
        Limits(bad=1),
    ),
)

UPKEEP: Final = (
    course(
        About(
            "Unreconciled",
            "Completed generations without media and tasks without end, as the last sweep found.",
            "short",
        ),
        [Query(latest_sweep("unreconciled_generations"), "generations and tasks")],
        Limits(1, 20),
        span=8,
    ),
    course(
        About("Oldest of them", "Age of the oldest the last sweep found. Sources expire: hours are late.", "s"),
        [Query(latest_sweep("oldest_unreconciled_seconds"), "oldest")],
        Limits(900, 3600),
        span=8,
    ),
    course(
        About("Objects removed", "Objects of Storage removed because nothing pointed at them, per minute.", "short"),
        [Query(or_zero(per_minute("objects_removed_total")), "removed")],
        span=8,
    ),
)

DASHBOARD: Final = board(
    DEAD,
    "Dead letters and retries",
    "What fails, what waits for another attempt, what stands until somebody decides.",
    {"Now": NOW, "Dead letters": LETTERS, "Retries": RETRIES, "Causes": CAUSES, "Sweep and upkeep": UPKEEP},
)
