"""The kinds of panels the dashboards are made of. Each has a unit, thresholds and a description by its signature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common as make
from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, WARNING, BAD = "green", "orange", "red"
ALWAYS_ZERO: Final = models.MatcherConfig(id_val="byValue", options={"reducer": "allIsZero", "op": "gte", "value": 0})
HIDDEN: Final = models.DynamicConfigValue(
    id_val="custom.hideFrom", value={"legend": True, "tooltip": True, "viz": True}
)


@dataclass(frozen=True, slots=True)
class About:
    """What a panel is called, what its figures mean, and their unit in Grafana's names (`s`, `ops`, `percentunit`)."""

    title: str
    description: str
    unit: str


@dataclass(frozen=True, slots=True)
class Limits:
    """From which value on figures are looked at with worry (`warning`) and with alarm (`bad`); None: never.

    `rising`: more is worse. Otherwise `bad` is below `warning`, and what lies under each of them is worse.
    """

    warning: float | None = None
    bad: float | None = None
    rising: bool = True

    def build(self) -> dashboard.ThresholdsConfig:
        """Return them as Grafana's steps: the first colour begins at minus infinity."""
        steps = [models.Threshold(value=None, color=GOOD if self.rising or self.warning is None else BAD)]
        if self.rising:
            given = ((self.warning, WARNING), (self.bad, BAD))
        else:
            given = ((self.bad, WARNING), (self.warning, GOOD))
        steps += [models.Threshold(value=value, color=color) for value, color in given if value is not None]
        return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


NO_LIMIT: Final = Limits()
"""For figures that are neither good nor bad by themselves."""


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and what its series are called: `{{label}}` stands for the label's value."""

    expr: str
    legend: str = ""


Panel = stat.Panel | timeseries.Panel | heatmap.Panel | statetimeline.Panel


def figure(about: About, query: str, limits: Limits, *, leads_to: str = "", span: int = 3) -> stat.Panel:
    """Return one large number, coloured by its limits, over its course; `leads_to` is a dashboard's uid."""
    panel = (
        stat.Panel()
        .title(about.title)
        .description(about.description)
        .unit(about.unit)
        .datasource(SOURCE)
        .thresholds(limits.build())
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(make.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("–")  # noqa: RUF001 - a dash, not a minus: there is no figure
        .height(4)
        .span(span)
        .with_target(_target(Query(query, about.title), "A"))
    )
    return panel.links([link(leads_to)]) if leads_to else panel


def course(
    about: About,
    queries: Sequence[Query],
    limits: Limits = NO_LIMIT,
    *,
    stacked: bool = False,
    zeros: bool = False,
    span: int = 12,
) -> timeseries.Panel:
    """Return lines over time, or areas on one another; limits are drawn as dashed lines.

    All series are there from the start, so what never happened is 0: in a stack its line would lie on top of all others
    and look like what did happen. Of series told apart by a label those are hidden, unless `zeros` matter.
    """
    panel = (
        timeseries.Panel()
        .title(about.title)
        .description(about.description)
        .unit(about.unit)
        .datasource(SOURCE)
        .thresholds(limits.build())
        .min(0)
        .line_width(2)
        .fill_opacity(40 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            make.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(make.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
        .height(8)
        .span(span)
    )
    if limits != NO_LIMIT:
        panel.thresholds_style(make.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED))
    if not zeros and any("{{" in query.legend for query in queries):
        panel.with_override(ALWAYS_ZERO, [HIDDEN])
    if stacked:
        panel.stacking(make.StackingConfig().mode(common.StackingMode.NORMAL))
    for letter, query in zip("ABCDEF", queries, strict=False):
        panel.with_target(_target(query, letter))
    return panel


def spread(about: About, query: str, limits: Limits = NO_LIMIT, *, span: int = 12) -> heatmap.Panel:
    """Return a heat map of a histogram: `query` is a rate of its buckets by `le`, `about.unit` their unit."""
    return (
        heatmap.Panel()
        .title(about.title)
        .description(about.description)
        .unit(about.unit)
        .datasource(SOURCE)
        .thresholds(limits.build())
        .calculate(calculate=False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").exponent(0.5).steps(64))
        .y_axis(heatmap.YAxisConfig().unit(about.unit).axis_placement(common.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit("ops"))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .height(8)
        .span(span)
        .with_target(_target(Query(query, "{{le}}"), "A", PromQueryFormat.HEATMAP))
    )


def states(about: About, query: Query, limits: Limits, *, span: int = 12) -> statetimeline.Panel:
    """Return a bar for each series, coloured over time by its limits."""
    return (
        statetimeline.Panel()
        .title(about.title)
        .description(about.description)
        .unit(about.unit)
        .datasource(SOURCE)
        .thresholds(limits.build())
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .show_value(common.VisibilityMode.NEVER)
        .height(8)
        .span(span)
        .with_target(_target(query, "A"))
    )


def link(uid: str) -> dashboard.DashboardLink:
    """Return a link to another of our dashboards, at the same time and for the same processes."""
    carried = "${__url_time_range}&${datasource:queryparam}&${instance:queryparam}"
    return dashboard.DashboardLink("look closer").type(models.DashboardLinkType.LINK).url(f"/d/{uid}?{carried}")


def _target(query: Query, letter: str, form: PromQueryFormat = PromQueryFormat.TIME_SERIES) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).format(form).range().ref_id(letter)
