"""Draws each kind of panel with matplotlib in Grafana's colours, from the panel and its named series."""

import math

from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator

BACKGROUND, CARD, TEXT, MUTED = "#111217", "#181b1f", "#d8d9da", "#8e9097"
COLORS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
SERIES = ["#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#5794f2", "#ba43a9", "#b877d9", "#8ab8ff", "#c0d8ff"]
WIDTH = 15.0
UNITS = {"ops": "/s", "short": "", "bool_on_off": ""}


def format_value(value: float, unit: str) -> str:
    """Return a value as Grafana formats it."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "Bps":
        power = min(3, max(0, int(math.log(value, 1000)))) if value >= 1 else 0
        return f"{value / 1000**power:.3g} {('', 'k', 'M', 'G')[power]}B/s"
    if unit == "s":
        if value >= 60:
            return f"{value / 60:.3g} min"
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    return f"{value:.3g}{UNITS[unit]}"


def colour(panel: dict, value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return COLORS[[step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]]


def points(series: dict, start: float) -> tuple[list[float], list[float]]:
    return [at - start for at, _ in series["values"]], [float(value) for _, value in series["values"]]


def draw_stat(axes: Axes, panel: dict, series: list, start: float) -> None:
    axes.set_axis_off()
    unit = panel["fieldConfig"]["defaults"]["unit"]
    drawn = [points(one, start) for _, one in series]
    times, values = next(iter(drawn), ([], []))
    known = [value for value in values if not math.isnan(value)]
    color = colour(panel, known[-1]) if known else TEXT
    axes.fill_between(times, values, min(known, default=0), color=color, alpha=0.18, linewidth=0)
    axes.set_ylim(min(known, default=0), max([*known, 1e-9]) * 2.2)
    text = format_value(known[-1], unit) if known else "-"
    axes.text(0.5, 0.5, text, color=color, fontsize=19, ha="center", va="center", transform=axes.transAxes)


def draw_time_series(axes: Axes, panel: dict, series: list, start: float, seconds: float) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    custom = panel["fieldConfig"]["defaults"]["custom"]
    grid = [float(second) for second in range(int(seconds) + 1)]
    base = [0.0] * len(grid)
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    top = 0.0
    for color, (name, one) in zip(SERIES * 3, series, strict=False):
        times, values = points(one, start)
        known = {round(at): value for at, value in zip(times, values, strict=True)}
        line = [known.get(int(at), math.nan) for at in grid]
        if stacked:
            raised = [below + (0 if math.isnan(value) else value) for below, value in zip(base, line, strict=True)]
            axes.fill_between(grid, base, raised, color=color, alpha=0.45, linewidth=0)
            base = line = raised
        axes.plot(grid, line, color=color, linewidth=1.3, label=name)
        top = max([top, *(value for value in line if not math.isnan(value))])
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]:
        if step["value"] <= top * 1.6:
            axes.axhline(step["value"], color=COLORS[step["color"]], linewidth=1, linestyle=(0, (5, 4)))
            top = max(top, step["value"] * 1.05)
    axes.set_ylim(0, top * 1.08 or 1)
    axes.set_xlim(0, seconds)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value, unit)))
    if series:
        longest = max(len(name) for name, _ in series)
        columns = max(1, int(panel["gridPos"]["w"] * WIDTH / 24 * 14 / (longest + 5)))
        legend = axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.09),
            ncols=columns,
            fontsize=6.5,
            frameon=False,
            labelcolor=TEXT,
            handlelength=1,
            columnspacing=1,
        )
        legend.set_in_layout(False)


def draw_heatmap(axes: Axes, panel: dict, series: list, start: float, seconds: float) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    rows = sorted(((float(one["metric"]["le"]), points(one, start)) for _, one in series), key=lambda row: row[0])
    grid, below = range(int(seconds) + 1), [0.0] * (int(seconds) + 1)
    cells = []
    for _, (times, values) in rows:
        known = {round(at): value for at, value in zip(times, values, strict=True)}
        line = [known.get(at, 0.0) for at in grid]
        cells.append([max(0.0, above - under) or math.nan for above, under in zip(line, below, strict=True)])
        below = line
    if cells:
        axes.pcolormesh(
            [*grid, len(grid)], range(len(rows) + 1), cells, cmap="inferno", norm=PowerNorm(0.5, vmin=0), linewidth=0
        )
        axes.set_yticks(range(1, len(rows), 2), [format_value(limit, unit) for limit, _ in rows[:-1:2]])
    axes.set_xlim(0, seconds)


def draw_state_timeline(axes: Axes, panel: dict, series: list, start: float, seconds: float) -> None:
    axes.set_xlim(0, seconds)
    for number, (_, one) in enumerate(series):
        for at, value in zip(*points(one, start), strict=True):
            axes.barh(number, 1.02, left=at, height=0.7, color=colour(panel, value))
    axes.set_yticks(range(len(series)), [name for name, _ in series])
    if not series:
        axes.text(0.5, 0.5, "no dependency was unavailable", color=MUTED, ha="center", transform=axes.transAxes)
