"""The results of a run: figures, a table, and a chart of throughput and backlog with the injected faults."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.audit import Finding, Observed
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault_injector import InjectedFault
from tests.chaos.monitor import ProgressSample

FINDING_GROUPS = {
    "lost": ("lost", "unfinished"),
    "stored twice": ("twice", "orphan"),
    "wrong": ("wrong", "reason", "leftover", "not_listening", "traceback"),
}
COLOURS = {"worker": "#d62728", "broker": "#9467bd", "database": "#2ca02c", "receiver": "#8c564b"}
SMOOTH_SECONDS = 5


def figures(
    environment: ChaosEnvironment,
    observed: Observed,
    findings: Sequence[Finding],
    faults: Counter[str],
    samples: Sequence[ProgressSample],
) -> dict[str, Any]:
    """Return all counts of a run by name."""
    wanted = len(observed.generations)
    ended = max((sample.ended for sample in samples), default=0)
    seconds = next((sample.at for sample in samples if sample.ended >= ended), 0.0)
    kinds = Counter(finding.kind for finding in findings)
    return {
        "generations": wanted,
        "files": sum(len(generation.files) for generation in observed.generations),
        "completed": sum(row["media_status"] == "completed" for row in observed.rows.values()),
        "partial": sum(row["media_status"] == "partial" for row in observed.rows.values()),
        "failed": sum(row["media_status"] == "failed" for row in observed.rows.values()),
        "bad files": sum(bool(file.code) for generation in observed.generations for file in generation.files),
        "dead letters": dict(sorted(Counter(dead_letter.code for dead_letter in observed.dead_letters).items())),
        "objects": len(observed.on_disk),
        "deduplicated files": sum(bool(file["deduplicated"]) for file in observed.files),
        **{name: sum(kinds[kind] for kind in kinds_of_group) for name, kinds_of_group in FINDING_GROUPS.items()},
        "worker kills": faults["kill_worker"],
        "broker restarts": faults["stop_broker"] + faults["kill_broker"],
        "database restarts": faults["stop_database"] + faults["kill_database"],
        "all faults": dict(sorted(faults.items())),
        "webhooks": dict(sorted(environment.lossy_webhooks.counts.items())),
        "storage and calls": dict(sorted(environment.fault_proxy.counts.items())),
        "downloads": sum(environment.source.visits.values()),
        "seconds": round(seconds, 1),
        "generations a second": round(wanted / seconds, 2) if seconds else 0.0,
    }


def table(results: Mapping[str, Any]) -> str:
    """Return the figures as aligned lines."""
    width = max(map(len, results))

    def format_result(value: object) -> str:
        return ", ".join(f"{name} {count}" for name, count in value.items()) if isinstance(value, dict) else str(value)

    return "\n".join(f"  {name:<{width}}  {format_result(value)}" for name, value in results.items())


def write(
    folder: Path,
    results: Mapping[str, Any],
    findings: Sequence[Finding],
    faults: Sequence[InjectedFault],
    samples: Sequence[ProgressSample],
) -> None:
    """Write report.json and report.png."""
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        **results,
        "findings": [asdict(finding) for finding in findings],
        "faults": [asdict(fault) for fault in faults],
        "samples": [asdict(sample) for sample in samples],
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    _draw(folder / "report.png", results, faults, samples)


def _draw(
    file: Path, results: Mapping[str, Any], faults: Sequence[InjectedFault], samples: Sequence[ProgressSample]
) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - slow to import and only needed at the end

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the same

    figure, (upper, lower) = plt.subplots(2, 1, figsize=(13, 7), sharex=True, layout="constrained")
    times = [sample.at for sample in samples]
    upper.plot(times, _rates(samples), color="#1f77b4", linewidth=1.2)
    upper.set_ylabel("generations completed per second")
    lower.fill_between(
        times, [max(0, sample.inserted - sample.ended) for sample in samples], color="#ff7f0e", alpha=0.5
    )
    lower.set_ylabel("backlog (inserted, not yet ended)")
    lower.set_xlabel("seconds")
    named = set()
    for fault in sorted(faults, key=lambda fault: fault.kind):
        what = fault.kind.partition("_")[2]
        colour = COLOURS.get(what, "#7f7f7f") if fault.kind.startswith(("kill", "stop")) else "#bcbcbc"
        label = f"{what} down" if colour != "#bcbcbc" else "other faults"
        for axis in (upper, lower):
            axis.axvline(fault.began, color=colour, linewidth=0.9, alpha=0.8, label="" if label in named else label)
        named.add(label)
    upper.legend(loc="upper right", fontsize=8)
    upper.set_title(
        f"{results['generations']} generations, {sum(results['all faults'].values())} faults: "
        f"{results['lost']} lost, {results['stored twice']} stored twice, {results['wrong']} wrong"
    )
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _rates(samples: Sequence[ProgressSample]) -> list[float]:
    """Return completions per second, averaged over the last few seconds."""
    rates = []
    for at, sample in enumerate(samples):
        before = next((old for old in samples[max(0, at - 30) : at] if sample.at - old.at <= SMOOTH_SECONDS), None)
        rates.append((sample.ended - before.ended) / (sample.at - before.at) if before else 0.0)
    return rates
