"""Charts of trends as SVG, drawn by the server: stacked bars over time, with axes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from markupsafe import Markup

from handlers.database.console_queries import Row

WIDTH, HEIGHT = 640.0, 190.0
LEFT, BOTTOM, TOP, RIGHT = 46.0, 22.0, 8.0, 6.0
PLOT_WIDTH: Final = WIDTH - LEFT - RIGHT
PLOT_HEIGHT: Final = HEIGHT - TOP - BOTTOM


@dataclass(frozen=True, slots=True)
class Trend:
    """A period of trends: its title, length, number of bars, and the time between two labels, in hours."""

    title: str
    hours: int
    bins: int
    label_hours: int
    label_format: str


DAY: Final = Trend("Last 24 hours", 24, 48, 4, "%H:%M")
WEEK: Final = Trend("Last 7 days", 7 * 24, 84, 24, "%d %b")


def trend_chart(trend: Trend, rows: Iterable[Row], now: datetime | None = None) -> Markup:
    """Return the chart of tasks that were completed, and that failed or are partial, in each part of the period."""
    now = now or datetime.now(UTC)
    stored, failed = [0] * trend.bins, [0] * trend.bins
    for row in rows:
        if 0 <= row["ago"] < trend.bins:
            stored[trend.bins - 1 - row["ago"]], failed[trend.bins - 1 - row["ago"]] = row["stored"], row["failed"]
    top = nice_top(max(map(sum, zip(stored, failed, strict=True)), default=0))
    minutes = trend.hours * 60 // trend.bins
    label = (
        f"{trend.title}, tasks per {_length(minutes)}: {sum(stored)} completed, {sum(failed)} failed or partial, "
        f"at most {max(map(sum, zip(stored, failed, strict=True)), default=0)}"
    )
    parts = [*_y_axis(top), *_x_axis(trend, now), *_bars(stored, failed, top)]
    return Markup('<svg class="trend" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(parts)
    )


def nice_top(largest: float) -> int:
    """Return the end of an axis: the next of 4, 10, 20, 40, 100, 200 and so on."""
    power: int = 10 ** max(0, math.floor(math.log10(max(largest, 1))))
    return next((top for top in (power, 2 * power, 4 * power, 10 * power) if top >= max(largest, 4)), 10 * power)


def _bars(stored: list[int], failed: list[int], top: int) -> list[Markup]:
    step, scale = PLOT_WIDTH / len(stored), PLOT_HEIGHT / top
    base = [TOP + PLOT_HEIGHT - number * scale for number in stored]
    floor = [TOP + PLOT_HEIGHT] * len(stored)
    paths = (("bars", stored, floor), ("bars failed", failed, base))
    return [
        Markup('<path class="{}" d="{}"/>').format(css_class, _path(numbers, bottoms, step, scale))
        for css_class, numbers, bottoms in paths
    ]


def _path(numbers: list[int], bottoms: list[float], step: float, scale: float) -> str:
    """Return bars that stand on `bottoms`. A bar of one task is at least a pixel high."""
    return "".join(
        f"M{LEFT + index * step:.1f} {bottom:.1f}v-{max(1.0, number * scale):.1f}h{step - 1:.1f}V{bottom:.1f}z"
        for index, (number, bottom) in enumerate(zip(numbers, bottoms, strict=True))
        if number
    )


def _y_axis(top: int) -> list[Markup]:
    lines = []
    for part in (0, 1, 2, 3, 4) if top % 4 == 0 else (0, 2, 4):
        y, number = TOP + PLOT_HEIGHT * (1 - part / 4), top * part // 4
        lines.append(
            Markup(
                '<path class="grid" d="M{:.1f} {:.1f}h{:.1f}"/><text class="y" x="{:.1f}" y="{:.1f}">{}</text>'
            ).format(LEFT, y, PLOT_WIDTH, LEFT - 6, y + 4, number)
        )
    return lines


def _x_axis(trend: Trend, now: datetime) -> list[Markup]:
    """Return labels at whole hours or days in UTC."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    at = midnight + timedelta(hours=now.hour // trend.label_hours * trend.label_hours)
    labels = []
    while (hours := (now - at).total_seconds() / 3600) < trend.hours:
        x = LEFT + PLOT_WIDTH * (1 - hours / trend.hours)
        text = at.strftime(trend.label_format)
        anchor = "end" if x > WIDTH - 30 else "start" if x < LEFT + 16 else "middle"
        labels.append(
            Markup(
                '<path class="grid" d="M{:.1f} {:.1f}v4"/><text class="x {}" x="{:.1f}" y="{:.1f}">{}</text>'
            ).format(x, TOP + PLOT_HEIGHT, anchor, x, HEIGHT - 4, text)
        )
        at -= timedelta(hours=trend.label_hours)
    return labels


def _length(minutes: int) -> str:
    return f"{minutes} minutes" if minutes < 60 else f"{minutes // 60} hours"  # noqa: PLR2004 - an hour
