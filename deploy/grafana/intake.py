"""The dashboard for intake: webhooks that arrive, and jobs that are published to the broker."""

from typing import Final

from deploy.grafana.dashboard import DEAD, INTAKE, build_dashboard
from deploy.grafana.panels import PanelQuery, PanelText, Thresholds, heatmap_panel, stat_panel, time_series
from deploy.grafana.queries import WORK_QUEUES, latest_sweep, or_zero, per_minute, quantile, queue, rate, ratio

RESPONSE_THRESHOLDS: Final = Thresholds(0.5, 1)
"""Response times in seconds. A webhook made in Supabase Studio times out after 1 s, and pg_net never retries."""
SERVER_ERROR_OUTCOMES: Final = "unavailable|unverifiable|error"

NOW: Final = (
    stat_panel(
        PanelText("Webhooks", "Webhooks received, per second.", "ops"),
        or_zero(rate("webhooks_total")),
        Thresholds(),
        span=6,
    ),
    stat_panel(
        PanelText(
            "Response time (p99)",
            "99% of webhooks are answered within this time. Studio's webhooks time out after 1 s.",
            "s",
        ),
        quantile(0.99, "webhook_duration_seconds"),
        RESPONSE_THRESHOLDS,
        span=6,
    ),
    stat_panel(
        PanelText(
            "Server errors",
            "Share of webhooks answered with 5xx: no broker, no keys to verify with, or an internal error.",
            "percentunit",
        ),
        ratio(rate("webhooks_total", matching=f'outcome=~"{SERVER_ERROR_OUTCOMES}"'), rate("webhooks_total")),
        Thresholds(0.001, 0.01),
        span=6,
    ),
    stat_panel(
        PanelText(
            "Lost webhooks", "Completed generations that the last sweep found and no webhook had reported.", "short"
        ),
        latest_sweep("unreconciled_generations"),
        Thresholds(1, 20),
        links_to=DEAD,
        span=6,
    ),
)

WEBHOOKS: Final = (
    time_series(
        PanelText(
            "Webhooks by outcome", "Webhooks per second, by outcome. `ignored`: the event needs no processing.", "ops"
        ),
        [PanelQuery(rate("webhooks_total", "source, outcome"), "{{source}}: {{outcome}}")],
        stacked=True,
    ),
    time_series(
        PanelText(
            "Rejected webhooks",
            "Webhooks per minute with a wrong secret, a wrong signature or an old timestamp.",
            "short",
        ),
        [PanelQuery(per_minute("signature_rejected_total", "source"), "{{source}}")],
        Thresholds(1, 30),
    ),
)

RESPONSE_TIME: Final = (
    heatmap_panel(
        PanelText(
            "Response time", "Time from the last byte of a webhook to its response: webhooks per second, by time.", "s"
        ),
        rate("webhook_duration_seconds_bucket", "le"),
        RESPONSE_THRESHOLDS,
    ),
    time_series(
        PanelText(
            "Response time by source (p99)",
            "99% of webhooks are answered within this time. The timeout of Studio's webhooks is 1 s.",
            "s",
        ),
        [PanelQuery(quantile(0.99, "webhook_duration_seconds", "source"), "{{source}}")],
        RESPONSE_THRESHOLDS,
    ),
)

BROKER: Final = (
    time_series(
        PanelText("Publisher confirms", "Time from publishing a message to RabbitMQ's confirm.", "s"),
        [PanelQuery(quantile(part, "publish_duration_seconds"), f"{part:.0%} within") for part in (0.5, 0.99)],
        RESPONSE_THRESHOLDS,
        span=8,
    ),
    time_series(
        PanelText("Consumers", "Consumers of each work queue. At 0 no worker takes jobs from it.", "short"),
        [PanelQuery(queue("consumers", WORK_QUEUES), "{{queue}}")],
        Thresholds(1, higher_is_worse=False),
        show_zeros=True,
        span=8,
    ),
    time_series(
        PanelText("Rejected sources", "Source URLs per minute that are not allowed, by reason.", "short"),
        [PanelQuery(per_minute("source_denied_total", "reason"), "{{reason}}")],
        Thresholds(1, 30),
        stacked=True,
        span=8,
    ),
)

DASHBOARD: Final = build_dashboard(
    INTAKE,
    "Intake",
    "Webhooks and the jobs published for them: errors, rejections, and response times.",
    {"Now": NOW, "Webhooks": WEBHOOKS, "Response time": RESPONSE_TIME, "Broker and sources": BROKER},
)
