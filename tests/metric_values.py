"""The value of a metric of prometheus_client, as a scrape reads it."""

from prometheus_client.metrics import MetricWrapperBase


def metric_value(metric: MetricWrapperBase) -> float:
    """Return the value of a counter or gauge without labels, or of one series, e.g. `metrics.jobs.labels(...)`."""
    (value,) = [s.value for family in metric.collect() for s in family.samples if not s.name.endswith("_created")]
    return value
