"""Draw the dashboards from a real run: `python -m tests.grafana.draw` writes deploy/grafana/pictures/*.png.

The panels' own queries are sent to Prometheus and drawn with the panels' positions, units and colours.
"""

import argparse
import asyncio
import io
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from tests.grafana.charts import (
    BACKGROUND,
    CARD,
    MUTED,
    TEXT,
    WIDTH,
    draw_heatmap,
    draw_stat,
    draw_state_timeline,
    draw_time_series,
)
from tests.grafana.dashboards import GRAFANA, dashboards, panels, queries
from tests.metrics.fault_scenario import inject_faults
from tests.metrics.monitored_stack import MonitoredStack, monitored_stack

CELL = 0.33
WINDOW = "5s"
CALM_SECONDS = 20


def draw_dashboard(dashboard: dict, answers: dict, start: float, seconds: float) -> Figure:
    """Return the picture of one dashboard."""
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 7})
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) + 1.6
    figure = Figure(figsize=(WIDTH, height * CELL), facecolor=BACKGROUND)
    figure.text(0.01, 1 - 0.8 / height, dashboard["title"], color=TEXT, fontsize=14, va="center", weight="bold")
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        left, bottom = grid["x"] / 24, 1 - (grid["y"] + grid["h"] + 1.5) / height
        wide, high = grid["w"] / 24, grid["h"] / height
        if panel["type"] == "row":
            figure.text(left + 0.01, bottom + high / 2, panel["title"], color=TEXT, fontsize=9, va="center")
            continue
        unit_x, unit_y = 0.25 / WIDTH, 0.25 * CELL / (height * CELL)
        card = figure.add_axes((left + unit_x / 3, bottom + unit_y / 3, wide - unit_x / 1.5, high - unit_y / 1.5))
        card.set(facecolor=CARD, xticks=[], yticks=[])
        card.text(
            0.08 / (wide * WIDTH),
            1 - 0.5 / grid["h"],
            panel["title"],
            color=TEXT,
            fontsize=8,
            va="center",
            transform=card.transAxes,
            weight="bold",
        )
        kind, series = panel["type"], answers[panel["id"]]
        foot = 0.3 if kind == "stat" else (1.8 if kind == "timeseries" else 0.9)
        side = 0.1 if kind == "stat" else 0.62
        inner = (
            left + side / WIDTH,
            bottom + foot / height,
            wide - (side + 0.15) / WIDTH,
            high - (foot + 1.1) / height,
        )
        axes = figure.add_axes(inner, facecolor=CARD)
        axes.tick_params(colors=MUTED, length=0)
        axes.grid(color="#2c2f36", linewidth=0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02}"))
        for spine in (*axes.spines.values(), *card.spines.values()):
            spine.set_visible(False)
        if kind == "stat":
            draw_stat(axes, panel, series, start)
        else:
            draw = {"timeseries": draw_time_series, "heatmap": draw_heatmap, "state-timeline": draw_state_timeline}[
                kind
            ]
            draw(axes, panel, series, start, seconds)
    return figure


async def query_panels(run: MonitoredStack, dashboard: dict, seconds: float) -> dict[int, list]:
    """Return each panel's named series by the panel's id."""
    answers: dict[int, list] = {panel["id"]: [] for panel in panels(dashboard)}
    for query in queries(dashboard):
        for one in await run.prometheus.query_range(query.concrete(WINDOW), run.start, run.start + seconds):
            name = query.legend
            for label in query.labels:
                name = name.replace(f"{{{{{label}}}}}", one["metric"].get(label, ""))
            answers[query.panel["id"]].append((name, one))
    for panel in panels(dashboard):
        if panel["fieldConfig"].get("overrides"):  # series that are always 0 are hidden
            series = answers[panel["id"]]
            answers[panel["id"]] = [
                (name, one) for name, one in series if any(float(value) for _, value in one["values"])
            ]
    return answers


def save(figure: Figure, path: Path) -> None:
    """Write a picture with 256 colours, which halves its size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90, facecolor=BACKGROUND)
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


async def main(rate: float, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as grid:
        async with monitored_stack(Path(grid)) as run:
            await inject_faults(run, rate, CALM_SECONDS)
            seconds = time.time() - run.start
            for uid, dashboard in dashboards().items():
                save(
                    draw_dashboard(dashboard, await query_panels(run, dashboard, seconds), run.start, seconds),
                    folder / f"{uid}.png",
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=2, help="generations a second")
    parser.add_argument("--folder", type=Path, default=GRAFANA / "pictures")
    options = parser.parse_args()
    asyncio.run(main(options.rate, options.folder))
