"""deploy/docs/metrics.md: every metric of a process, from the registry."""

from tests.reference.tables import table
from worker.observability.metrics import Metrics

MOST_VALUES = 8
HEAD = """\
# Metrics

What receivers and workers serve at `/metrics`, in Prometheus' text format. Every series exists from the start with the
value 0. Durations are in seconds, sizes in bytes; no label depends on a user, a generation or a host.
[deploy/README.md](../README.md#monitoring) says how to scrape them, and what the alerts watch. A histogram has the
series `_bucket`, `_sum` and `_count`.

"""


def page() -> str:
    families = sorted(Metrics("0").registry.collect(), key=lambda family: family.name)
    return HEAD + table(("metric", "kind", "labels", "meaning"), [_row(family) for family in families])


def _row(family):
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    values = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label not in {"le", "version"}:
                values.setdefault(label, set()).add(value)
    return (
        f"`{family.name}{suffix}`",
        family.type,
        "; ".join(_label(*item) for item in values.items()),
        family.documentation,
    )


def _label(name, values):
    if len(values) > MOST_VALUES:
        return f"`{name}`"
    return f"`{name}`: {', '.join(sorted(values))}"
