"""The report of a benchmark run: a table on the terminal, `report.json`, and charts."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TARGETS = {
    "throughput_1024": (1.2, "higher"),
    "throughput_tiny": (1.0, "higher"),
    "throughput_big": (1.5, "higher"),
    "throughput_1024_20_ms_away": (1.0, "higher"),
    "throughput_1024_80_ms_away": (1.0, "higher"),
    "memory_1024_20_ms_away": (0.25, "lower"),
    "memory_1024_80_ms_away": (0.25, "lower"),
    "cpu_over_codec_floor": (1.5, "lower"),
    "memory_over_peer": (0.9, "lower"),
    "ssim_1024_over_peer": (0.98, "higher"),
    "ssim_big_over_peer": (0.98, "higher"),
    "latency_p50_over_peer": (1.0, "lower"),
    "duplicates_by_url_over_first": (6.0, "higher"),
    "serve_peak_mib": (125.0, "lower"),
    "intake_over_bare": (0.85, "higher"),
    "burst_slowest_seconds": (0.5, "lower"),
    "intake_slowest_seconds": (1.0, "lower"),
    "soak_mib_per_1000_files": (1.0, "lower"),
    "backlog_memory": (1.1, "lower"),
}
"""The target of each ratio, and which direction is better. Other ratios are reported without a target."""


@dataclass
class Report:
    """Collects the results of scenarios: rows of figures, ratios, and series to plot."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    series: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)

    def row(self, scenario: str, side: str, **figures: Sequence[float]) -> None:
        """Add figures of one side with one value per round; the median and the range are reported."""
        self.rows.append({"scenario": scenario, "side": side, "figures": {k: list(v) for k, v in figures.items()}})

    def ratio(self, name: str, value: float) -> None:
        """Add a ratio, or a figure with a target."""
        self.ratios[name] = round(value, 3)

    def as_json(self) -> dict[str, Any]:
        """Return the ratios and rows; `meets` is None for a ratio without a target."""
        ratios = {}
        for name, value in self.ratios.items():
            target, better = TARGETS.get(name, (None, "higher"))
            ratios[name] = {"value": value, "target": target, "better": better, "meets": meets(name, value)}
        return {"ratios": ratios, "rows": self.rows}

    def table(self) -> str:
        """Return the report as text."""
        lines = []
        for row in self.rows:
            figures = ", ".join(f"{name} {spread(values)}" for name, values in row["figures"].items())
            lines.append(f"{row['scenario']:<14} {row['side']:<14} {figures}")
        lines.append("")
        for name, found in self.as_json()["ratios"].items():
            wanted = f"{'>=' if found['better'] == 'higher' else '<='} {found['target']}" if found["target"] else ""
            verdict = {True: "met", False: "MISSED", None: ""}[found["meets"]]
            lines.append(f"{name:<28} {found['value']:>8.3f}  {wanted:<8} {verdict}")
        return "\n".join(lines)

    def write(self, out: Path) -> None:
        """Write report.json and one chart for each family of series."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import and only needed at the end

        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(self.as_json(), indent=2) + "\n")
        for name, lines in self.series.items():
            figure = Figure(figsize=(8, 4.5), layout="constrained")
            axes = figure.subplots()
            for side, points in lines.items():
                axes.plot(*zip(*points, strict=True), label=side, marker="." if len(points) < 30 else None)
            across, _, up = name.partition(" by ")[2].partition(" in ")
            axes.set(title=name, xlabel=across, ylabel=up, ylim=(0, None))
            axes.grid(alpha=0.3)
            axes.legend()
            figure.savefig(out / f"{name.partition(' by ')[0].replace(' ', '-')}.png", dpi=110)


def meets(name: str, value: float) -> bool | None:
    """Whether a ratio meets its target; None for one without a target."""
    if name not in TARGETS:
        return None
    target, better = TARGETS[name]
    return value >= target if better == "higher" else value <= target


def spread(values: Sequence[float]) -> str:
    """Return the median, and the range of more than one value."""
    middle = f"{statistics.median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g} to {max(values):.3g})"
