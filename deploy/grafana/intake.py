"""Intake: webhooks in, jobs on the broker."""

from typing import Final

from deploy.grafana.board import DEAD, INTAKE, board
from deploy.grafana.panels import About, Limits, Query, course, figure, spread
from deploy.grafana.queries import WORK_QUEUES, latest_sweep, or_zero, per_minute, quantile, queue, rate, share

ANSWER: Final = Limits(0.5, 1)
"""Supabase's pg_net gives up after 1 s and never sends again."""
TROUBLE: Final = "unavailable|unverifiable|error"

NOW: Final = (
    figure(
        About("Webhooks", "Webhooks received, per second.", "ops"),
        or_zero(rate("webhooks_total")),
        Limits(),
        span=6,
    ),
    figure(
        About("Answered within", "99 of 100 webhooks. At 1 s Supabase's pg_net hangs up, and never sends again.", "s"),
        quantile(0.99, "webhook_duration_seconds"),
        ANSWER,
        span=6,
    ),
    figure(
        About(
            "Not taken",
            "Share of webhooks we owed an answer: no broker, no keys to check with, or our own error.",
            "percentunit",
        ),
        share(rate("webhooks_total", matching=f'outcome=~"{TROUBLE}"'), rate("webhooks_total")),
        Limits(0.001, 0.01),
        span=6,
    ),
    figure(
        About("Lost webhooks", "Completed generations the last sweep found that nobody had told of.", "short"),
        latest_sweep("unreconciled_generations"),
        Limits(1, 20),
        leads_to=DEAD,
        span=6,
    ),
)

WEBHOOKS: Final = (
    course(
        About(
            "Webhooks by outcome", "What became of them, per second; `ignored` are events that do not matter.", "ops"
        ),
        [Query(rate("webhooks_total", "source, outcome"), "{{source}}: {{outcome}}")],
        stacked=True,
    ),
    course(
        About(
            "Refused",
            "Webhooks refused for secret, signature or age, per minute: a wrong secret, or a stranger.",
            "short",
        ),
        [Query(per_minute("signature_rejected_total", "source"), "{{source}}")],
        Limits(1, 30),
    ),
)

LATENCY: Final = (
    spread(
        About("Time to answer", "From a webhook's last byte to its answer: webhooks per second, by time.", "s"),
        rate("webhook_duration_seconds_bucket", "le"),
        ANSWER,
    ),
    course(
        About(
            "Time to answer, by source",
            "99 of 100 webhooks; the lines are half of pg_net's patience, and all of it.",
            "s",
        ),
        [Query(quantile(0.99, "webhook_duration_seconds", "source"), "{{source}}")],
        ANSWER,
    ),
)

BROKER: Final = (
    course(
        About("Broker's confirm", "From publishing a message to RabbitMQ's word that it has it.", "s"),
        [Query(quantile(part, "publish_duration_seconds"), f"{part:.0%} within") for part in (0.5, 0.99)],
        ANSWER,
        span=8,
    ),
    course(
        About("Consumers", "Workers' consumers on each work queue. None: nothing is taken from it.", "short"),
        [Query(queue("consumers", WORK_QUEUES), "{{queue}}")],
        Limits(1, rising=False),
        zeros=True,
        span=8,
    ),
    course(
        About("Sources refused", "Source URLs that no rule lets us fetch, by rule, per minute.", "short"),
        [Query(per_minute("source_denied_total", "reason"), "{{reason}}")],
        Limits(1, 30),
        stacked=True,
        span=8,
    ),
)

DASHBOARD: Final = board(
    INTAKE,
    "Intake",
    "Webhooks in, jobs on the broker: what is refused, and how close answers come to pg_net's one second.",
    {"Now": NOW, "Webhooks": WEBHOOKS, "Time to answer": LATENCY, "Broker and sources": BROKER},
)
