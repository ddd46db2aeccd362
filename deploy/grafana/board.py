"""What is the same around all dashboards: variables, links to one another, and marks where something was done."""

from collections.abc import Mapping, Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.panels import SOURCE, Panel
from deploy.grafana.queries import own

TAG: Final = "outlast"
OVERVIEW: Final = "outlast-overview"
PIPELINE: Final = "outlast-pipeline"
DEAD: Final = "outlast-dead"
INTAKE: Final = "outlast-intake"
Rows = Mapping[str, Sequence[Panel]]


class Mark(models.AnnotationQuery, Builder[models.AnnotationQuery]):
    """A vertical line where the query has a value above 0; the SDK knows no text of an annotation from Prometheus."""

    def __init__(self, name: str, color: str, expr: str, text: str) -> None:
        super().__init__(name=name, datasource=SOURCE, icon_color=color, expr=expr)
        self._text = text

    def build(self) -> models.AnnotationQuery:
        """Return itself."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return what Grafana reads; a point a minute is looked at."""
        return super().to_json() | {"step": "60s", "titleFormat": self.name, "textFormat": self._text}


DEPLOYS: Final = Mark(
    "Deploys",
    "blue",
    f"count by (version) ({own('build_info')}) unless on (version) count by (version) ({own('build_info')} offset 2m)",
    "version {{version}} began to run",
)
REPLAYS: Final = Mark(
    "Replays",
    "purple",
    f"sum(increase({own('dead_letters_replayed_total')}[1m])) > 0",
    "dead letters were put back on their queue",
)


def board(uid: str, title: str, description: str, rows: Rows) -> models.Dashboard:
    """Return a dashboard of these rows of panels, with what all of them have."""
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
    everything = models.VariableOption(text="All", value="$__all")
    return (
        dashboard.QueryVariable("instance")
        .label("Process")
        .description("Receivers and workers, as Prometheus names them.")
        .datasource(SOURCE)
        .query({"query": "label_values(outlast_build_info, instance)", "refId": "instance"})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(everything)
    )


def _links() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Outlast")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
