"""PromQL that several panels use. Each function returns an expression as text.

Outlast's metrics are filtered by the variable `instance`. The lengths of queues are metrics of RabbitMQ's Prometheus
plugin, which exist even when no worker runs; they do not depend on `instance`. They come from the plugin's per-object
endpoint. Its aggregated endpoint has no label `queue`, so nothing is counted twice when both are scraped.
"""

from typing import Final

INSTANCE_MATCHER: Final = 'instance=~"$instance"'
RATE_WINDOW: Final = "[$__rate_interval]"
WORK_QUEUES: Final = "(outlast[.])?(file_processing|optimization|maintenance).*"
"""Outlast's work queues, and the inboxes for Celery producers, which have the same names without the prefix."""
RETRY_QUEUES: Final = "outlast[.]retry[.].*"
DEAD_QUEUE: Final = "outlast[.]dead"
ENDED_OUTCOMES: Final = "completed|partial|failed|cancelled|dead_links"


def selector(metric: str, matching: str = "") -> str:
    """Return the selector of one of Outlast's metrics. `matching` has more matchers, such as `outcome="stored"`."""
    return f"outlast_{metric}{{{', '.join(filter(None, (INSTANCE_MATCHER, matching)))}}}"


def rate(metric: str, by: str = "", matching: str = "") -> str:
    """Return a counter's rate per second, summed by the labels `by`."""
    return f"{_sum(by)}(rate({selector(metric, matching)}{RATE_WINDOW}))"


def per_minute(metric: str, by: str = "", matching: str = "") -> str:
    """Return a counter's rate per minute, for rare events."""
    return f"60 * {rate(metric, by, matching)}"


def quantile(level: float, histogram: str, by: str = "") -> str:
    """Return a quantile of a histogram. `level` is, for example, 0.95; `histogram` has no `_bucket` at the end."""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({level:g}, {rate(f'{histogram}_bucket', labels)})"


def ratio(part: str, whole: str) -> str:
    """Return part / whole: no series when the whole is 0, and 0 when the part has no series."""
    return f"({part} or vector(0)) / ({whole} > 0)"


def latest_sweep(metric: str) -> str:
    """Return a metric of the last sweep. Any worker can sweep, and each exports the result of its own last sweep."""
    swept = selector("last_sweep_timestamp_seconds")
    return f"max({selector(metric)} and ({swept} == scalar(max({swept}))))"


def or_zero(query: str) -> str:
    """Return PromQL: the query, or 0 if it has no series, because the event never happened."""
    return f"{query} or vector(0)"


def queue(metric: str, names: str, by: str = "queue") -> str:
    """Return PromQL: a metric of the queues whose names match the regular expression `names`, summed by labels.

    When several nodes of a cluster report the same queue, the largest value is used.
    """
    return f'{_sum(by)}(max by (vhost, queue) (rabbitmq_queue_{metric}{{queue=~"{names}"}}))'


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"
