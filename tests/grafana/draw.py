"""Draws the dashboards from a real run: `python -m tests.grafana.draw` makes deploy/grafana/pictures/*.png.

The panels' own queries are asked of Prometheus, and drawn in the panels' own places, units and colours.
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

from tests.grafana.boards import GRAFANA, boards, panels, queries
from tests.grafana.charts import BACK, CARD, QUIET, TEXT, WIDTH, draw_course, draw_figure, draw_spread, draw_states
from tests.metrics.trouble import trouble
from tests.metrics.watched import Watched, watched

CELL = 0.33
WINDOW = "5s"
CALM_SECONDS = 20


def draw_board(board: dict, answers: dict, start: float, seconds: float) -> Figure:
    """Return the picture of one dashboard."""
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 7})
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) + 1.6
    figure = Figure(figsize=(WIDTH, height * CELL), facecolor=BACK)
    figure.text(0.01, 1 - 0.8 / height, board["title"], color=TEXT, fontsize=14, va="center", weight="bold")
    for panel in board["panels"]:
        place = panel["gridPos"]
        left, bottom = place["x"] / 24, 1 - (place["y"] + place["h"] + 1.5) / height
        wide, high = place["w"] / 24, place["h"] / height
        if panel["type"] == "row":
            figure.text(left + 0.01, bottom + high / 2, panel["title"], color=TEXT, fontsize=9, va="center")
            continue
        unit_x, unit_y = 0.25 / WIDTH, 0.25 * CELL / (height * CELL)
        card = figure.add_axes((left + unit_x / 3, bottom + unit_y / 3, wide - unit_x / 1.5, high - unit_y / 1.5))
        card.set(facecolor=CARD, xticks=[], yticks=[])
        card.text(
            0.08 / (wide * WIDTH),
            1 - 0.5 / place["h"],
            panel["title"],
            color=TEXT,
            fontsize=8,
            va="center",
            transform=card.transAxes,
            weight="bold",
        )
        kind, found = panel["type"], answers[panel["id"]]
        foot = 0.3 if kind == "stat" else (1.8 if kind == "timeseries" else 0.9)
        side = 0.1 if kind == "stat" else 0.62
        inner = (
            left + side / WIDTH,
            bottom + foot / height,
            wide - (side + 0.15) / WIDTH,
            high - (foot + 1.1) / height,
        )
        axes = figure.add_axes(inner, facecolor=CARD)
        axes.tick_params(colors=QUIET, length=0)
        axes.grid(color="#2c2f36", linewidth=0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02}"))
        for spine in (*axes.spines.values(), *card.spines.values()):
            spine.set_visible(False)
        if kind == "stat":
            draw_figure(axes, panel, found, start)
        else:
            draw = {"timeseries": draw_course, "heatmap": draw_spread, "state-timeline": draw_states}[kind]
            draw(axes, panel, found, start, seconds)
    return figure


async def ask(run: Watched, board: dict, seconds: float) -> dict[int, list]:
    """Return each panel's named series by the panel's id."""
    answers: dict[int, list] = {panel["id"]: [] for panel in panels(board)}
    for query in queries(board):
        for one in await run.prometheus.query_range(query.concrete(WINDOW), run.start, run.start + seconds):
            name = query.legend
            for label in query.labels:
                name = name.replace(f"{{{{{label}}}}}", one["metric"].get(label, ""))
            answers[query.panel["id"]].append((name, one))
    for panel in panels(board):
        if panel["fieldConfig"].get("overrides"):  # what is 0 all the time is hidden
            found = answers[panel["id"]]
            answers[panel["id"]] = [
                (name, one) for name, one in found if any(float(value) for _, value in one["values"])
            ]
    return answers


def save(figure: Figure, path: Path) -> None:
    """Write a picture of 256 colours, which is half of the bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90, facecolor=BACK)
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


async def main(rate: float, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        async with watched(Path(place)) as run:
            await trouble(run, rate, CALM_SECONDS)
            seconds = time.time() - run.start
            for uid, board in boards().items():
                save(draw_board(board, await ask(run, board, seconds), run.start, seconds), folder / f"{uid}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=2, help="generations a second")
    parser.add_argument("--folder", type=Path, default=GRAFANA / "pictures")
    given = parser.parse_args()
    asyncio.run(main(given.rate, given.folder))
