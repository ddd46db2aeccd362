"""The parts that all dashboards have in common: variables, links to each other, and annotations."""

from collections.abc import Mapping, Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.panels import DATASOURCE, Panel
from deploy.grafana.queries import selector

TAG: Final = "outlast"
OVERVIEW: Final = "outlast-overview"
PIPELINE: Final = "outlast-pipeline"
DEAD: Final = "outlast-dead"
INTAKE: Final = "outlast-intake"
CONSOLE_URL: Final = "http://127.0.0.1:8080/console"
"""The console of compose."""
Rows = Mapping[str, Sequence[Panel]]


class Annotation(models.AnnotationQuery, Builder[models.AnnotationQuery]):
    """A vertical line where the query has a value above 0. The SDK lacks the text of a Prometheus annotation."""

    def __init__(self, name: str, color: str, expr: str, text: str) -> None:
        super().__init__(name=name, datasource=DATASOURCE, icon_color=color, expr=expr)
        self._text = text

    def build(self) -> models.AnnotationQuery:
        """Return this object, which is both builder and model."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return the JSON object. Grafana evaluates the query once a minute."""
        return super().to_json() | {"step": "60s", "titleFormat": self.name, "textFormat": self._text}


DEPLOYS: Final = Annotation(
    "Deploys",
    "blue",
    f"count by (version) ({selector('build_info')})"
    f" unless on (version) count by (version) ({selector('build_info')} offset 2m)",
    "version {{version}} was started",
)
REPLAYS: Final = Annotation(
    "Replays",
    "purple",
    f"sum(increase({selector('dead_letters_replayed_total')}[1m])) > 0",
    "dead letters were replayed",
)


def build_dashboard(uid: str, title: str, description: str, rows: Rows) -> models.Dashboard:
    """Return a dashboard with these rows of panels and the common parts."""
    made = (
        dashboard.Dashboard(f"Outlast: {title}")
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(_datasource())
        .with_variable(_instance())
        .with_variable(_console())
        .annotation(DEPLOYS)
        .annotation(REPLAYS)
        .link(_links())
    )
    number = 0
    for name, panels in rows.items():
        number += 1
        made.with_row(dashboard.Row(name).id(number))
        for panel in panels:
            number += 1
            made.with_panel(panel.id(number))
    return made.build()


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _instance() -> dashboard.QueryVariable:
    all_instances = models.VariableOption(text="All", value="$__all")
    return (
        dashboard.QueryVariable("instance")
        .label("Process")
        .description("Receivers and workers, by their Prometheus label `instance`.")
        .datasource(DATASOURCE)
        .query({"query": "label_values(outlast_build_info, instance)", "refId": "instance"})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(all_instances)
    )


def _console() -> dashboard.TextBoxVariable:
    return (
        dashboard.TextBoxVariable("console")
        .label("Console")
        .description("Address of Outlast's console as your browser reaches it, for the links in panels.")
        .default_value(CONSOLE_URL)
    )


def _links() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Outlast")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
