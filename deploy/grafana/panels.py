"""The kinds of panels of the dashboards. Every panel has a title, a description, a unit and thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, WARNING, BAD = "green", "orange", "red"
ALWAYS_ZERO: Final = models.MatcherConfig(id_val="byValue", options={"reducer": "allIsZero", "op": "gte", "value": 0})
HIDDEN: Final = models.DynamicConfigValue(
    id_val="custom.hideFrom", value={"legend": True, "tooltip": True, "viz": True}
)


@dataclass(frozen=True, slots=True)
class PanelText:
    """The title and the description of a panel, and its unit in Grafana's names, such as `s`, `ops`, `percentunit`."""

    title: str
    description: str
    unit: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The values from which a panel is orange (`warning`) or red (`bad`); None: never.

    With `higher_is_worse=False`, a value below `warning` is orange and a value below `bad` is red.
    """

    warning: float | None = None
    bad: float | None = None
    higher_is_worse: bool = True

    def build(self) -> dashboard.ThresholdsConfig:
        """Return Grafana's steps. The first one has no value and applies from minus infinity."""
        steps = [models.Threshold(value=None, color=GOOD if self.higher_is_worse or self.warning is None else BAD)]
        if self.higher_is_worse:
            given = ((self.warning, WARNING), (self.bad, BAD))
        else:
            given = ((self.bad, WARNING), (self.warning, GOOD))
        steps += [models.Threshold(value=value, color=color) for value, color in given if value is not None]
        return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


NO_THRESHOLDS: Final = Thresholds()
"""For values that are neither good nor bad."""


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """A PromQL expression and the legend of its series, where `{{label}}` is replaced by the value of that label."""

    expr: str
    legend: str = ""


Panel = stat.Panel | timeseries.Panel | heatmap.Panel | statetimeline.Panel


def stat_panel(
    text: PanelText, query: str, thresholds: Thresholds, *, links_to: str = "", console: str = "", span: int = 3
) -> stat.Panel:
    """Return a panel with the current value and a graph behind it.

    `links_to` is the uid of a dashboard, `console` a page of the console; a click on the value leads there.
    """
    panel = (
        stat.Panel()
        .title(text.title)
        .description(text.description)
        .unit(text.unit)
        .datasource(DATASOURCE)
        .thresholds(thresholds.build())
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("–")  # noqa: RUF001 - an en dash is shown when there is no value
        .height(4)
        .span(span)
        .with_target(_target(PanelQuery(query, text.title), "A"))
    )
    if console:
        panel.data_links([console_link(console)])
    return panel.links([dashboard_link(links_to)]) if links_to else panel


def time_series(  # noqa: PLR0913 - options of a panel
    text: PanelText,
    queries: Sequence[PanelQuery],
    thresholds: Thresholds = NO_THRESHOLDS,
    *,
    stacked: bool = False,
    show_zeros: bool = False,
    console: str = "",
    span: int = 12,
) -> timeseries.Panel:
    """Return a panel with lines over time, or with stacked areas. Thresholds are drawn as dashed lines.

    `console` is a page of the console; a click on a point leads there.

    Every metric exports all its series from the start, so an event that never happened is a series of zeros. In a stack
    such a series would be drawn on top of the others. Series with labels that are always 0 are therefore hidden, unless
    `show_zeros` is set.
    """
    panel = (
        timeseries.Panel()
        .title(text.title)
        .description(text.description)
        .unit(text.unit)
        .datasource(DATASOURCE)
        .thresholds(thresholds.build())
        .min(0)
        .line_width(2)
        .fill_opacity(40 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
        .height(8)
        .span(span)
    )
    if thresholds != NO_THRESHOLDS:
        panel.thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED))
    if not show_zeros and any("{{" in query.legend for query in queries):
        panel.with_override(ALWAYS_ZERO, [HIDDEN])
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if console:
        panel.data_links([console_link(console)])
    for letter, query in zip("ABCDEF", queries, strict=False):
        panel.with_target(_target(query, letter))
    return panel


def heatmap_panel(
    text: PanelText, query: str, thresholds: Thresholds = NO_THRESHOLDS, *, span: int = 12
) -> heatmap.Panel:
    """Return a heat map of a histogram. `query` is the rate of its buckets by `le`, `text.unit` the unit of `le`."""
    return (
        heatmap.Panel()
        .title(text.title)
        .description(text.description)
        .unit(text.unit)
        .datasource(DATASOURCE)
        .thresholds(thresholds.build())
        .calculate(calculate=False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").exponent(0.5).steps(64))
        .y_axis(heatmap.YAxisConfig().unit(text.unit).axis_placement(common.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit("ops"))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .height(8)
        .span(span)
        .with_target(_target(PanelQuery(query, "{{le}}"), "A", PromQueryFormat.HEATMAP))
    )


def state_timeline(
    text: PanelText, query: PanelQuery, thresholds: Thresholds, *, span: int = 12
) -> statetimeline.Panel:
    """Return a panel with one horizontal bar per series, coloured over time by the thresholds."""
    return (
        statetimeline.Panel()
        .title(text.title)
        .description(text.description)
        .unit(text.unit)
        .datasource(DATASOURCE)
        .thresholds(thresholds.build())
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .show_value(common.VisibilityMode.NEVER)
        .height(8)
        .span(span)
        .with_target(_target(query, "A"))
    )


def dashboard_link(uid: str) -> dashboard.DashboardLink:
    """Return a link to another dashboard that keeps the time range and the variables."""
    carried = "${__url_time_range}&${datasource:queryparam}&${instance:queryparam}"
    return dashboard.DashboardLink("Details").type(models.DashboardLinkType.LINK).url(f"/d/{uid}?{carried}")


def console_link(page: str) -> dashboard.DashboardLink:
    """Return a link to a page of the console. `${__field.labels.x}` in it is the label of the series."""
    return (
        dashboard.DashboardLink("Console")
        .type(models.DashboardLinkType.LINK)
        .url(f"${{console}}{page}")
        .target_blank(target_blank=True)
    )


def _target(
    query: PanelQuery, letter: str, form: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).format(form).range().ref_id(letter)
