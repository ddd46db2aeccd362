"""PromQL that several panels share.

Our own metrics are selected by the variable `instance`. What waits in the broker is asked of RabbitMQ's plugin, which
knows it even when no worker runs; those metrics are the broker's and follow no `instance`. They come from the plugin's
per-object endpoint: the aggregated one has no label `queue`, so that scraping both counts nothing twice.
"""

from typing import Final

INSTANCE: Final = 'instance=~"$instance"'
WINDOW: Final = "[$__rate_interval]"
WORK_QUEUES: Final = "(outlast[.])?(file_processing|optimization|maintenance).*"
"""Ours, and the inboxes of Celery's producers, which are called as Celery calls them."""
RETRY_QUEUES: Final = "outlast[.]retry[.].*"
DEAD_QUEUE: Final = "outlast[.]dead"
ENDED: Final = "completed|partial|failed|cancelled"


def own(metric: str, matching: str = "") -> str:
    """Return the selector of one of our metrics; `matching` are more matchers, as `outcome="stored"`."""
    return f"outlast_{metric}{{{', '.join(filter(None, (INSTANCE, matching)))}}}"


def rate(metric: str, by: str = "", matching: str = "") -> str:
    """Return a counter's rate per second, summed by these labels; over all when there are none."""
    return f"{_sum(by)}(rate({own(metric, matching)}{WINDOW}))"


def per_minute(metric: str, by: str = "", matching: str = "") -> str:
    """Return the same per minute, for what is rare."""
    return f"60 * {rate(metric, by, matching)}"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """Return the value that this share of observations stays below; `histogram` without `_bucket`."""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', labels)})"


def share(part: str, whole: str) -> str:
    """Return part / whole; nothing where the whole is nothing, and 0 where only the part is."""
    return f"({part} or vector(0)) / ({whole} > 0)"


def latest_sweep(metric: str) -> str:
    """Return what the last sweep found: any worker may sweep, and each goes on telling what its own last one found."""
    swept = own("last_sweep_timestamp_seconds")
    return f"max({own(metric)} and ({swept} == scalar(max({swept}))))"


def or_zero(query: str) -> str:
    """Return 0 where the query has no series, as for what never happened."""
    return f"{query} or vector(0)"


def queue(metric: str, names: str, by: str = "queue") -> str:
    """Return a metric of the broker's queues with such names, summed by these labels.

    Several nodes of a cluster may report one queue: its largest figure counts.
    """
    return f'{_sum(by)}(max by (vhost, queue) (rabbitmq_queue_{metric}{{queue=~"{names}"}}))'


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"
