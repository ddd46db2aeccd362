"""The committed dashboards as Grafana reads them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"


@dataclass(frozen=True)
class Query:
    """A query of a panel, or of an annotation (which has no panel)."""

    dashboard: str
    title: str
    expr: str
    legend: str
    panel: dict | None = None

    def concrete(self, window: str) -> str:
        """Return the expression as Grafana sends it, for all instances; `window` like `15s`."""
        return self.expr.replace("$__rate_interval", window).replace("$instance", ".*")

    @property
    def labels(self) -> set[str]:
        """The labels named in its legend."""
        return set(re.findall(r"{{(\w+)}}", self.legend))


def dashboards() -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(GRAFANA.glob("dashboards/*.json"))}


def panels(dashboard: dict) -> list[dict]:
    """Return the panels without the row headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: dict) -> list[Query]:
    return [
        Query(dashboard["uid"], panel["title"], target["expr"], target["legendFormat"], panel)
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def annotations(dashboard: dict) -> list[Query]:
    return [
        Query(dashboard["uid"], annotation["name"], annotation["expr"], "")
        for annotation in dashboard["annotations"]["list"]
    ]
