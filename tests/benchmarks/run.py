"""`python -m tests.benchmarks.run [SCENARIO...]`: run all sides in turn; report medians and ranges.

Writes report.json and charts to .outlast/bench/. The exit code is 0 also when a target is missed.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path

import structlog

from deploy.local.signals import run_until_signal
from tests.benchmarks import corpus
from tests.benchmarks.endurance import backlog, soak, start
from tests.benchmarks.environment import ROOT, BenchmarkEnvironment
from tests.benchmarks.intake import intake
from tests.benchmarks.latency import latency, serve
from tests.benchmarks.queues import queues
from tests.benchmarks.report import Report
from tests.benchmarks.throughput import duplicates, far, scaling, throughput

OUT = Path(".outlast/bench")
TIMES = 8


async def floor(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Measure the codec floor of the 1024 mix, the reference for `throughput`."""
    names = corpus.make(environment.files, "1024", 6)
    files = [str(environment.files / name) for name in names]
    found = []
    for _ in range(rounds):
        program = [sys.executable, "-m", "tests.benchmarks.codec_floor", *files, "--times", str(TIMES)]
        process = await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        found.append(json.loads((await process.communicate())[0]))
    cpu = [1000 * one["cpu"] / one["files"] for one in found]
    report.row("codec floor", "pyvips", per_second=[one["files"] / one["seconds"] for one in found], cpu_ms=cpu)


SCENARIOS = {
    "floor": floor,
    "throughput": throughput,
    "far": far,
    "duplicates": duplicates,
    "latency": latency,
    "serve": serve,
    "intake": intake,
    "queues": queues,
    "scaling": scaling,
    "start": start,
    "backlog": backlog,
    "soak": soak,
}


async def run(names: list[str], rounds: int, out: Path) -> None:
    """Run scenarios; write the report after each."""
    report, began = Report(), time.monotonic()
    async with BenchmarkEnvironment(out / "ground") as environment:
        for name in names:
            print_line(f"{time.monotonic() - began:7.1f}  {name}")
            await SCENARIOS[name](environment, report, rounds)
            _relate(report)
            report.write(out)
    print_line(f"\n{machine()}\n{report.table()}\n\nreport.json and pictures are in {out}")


def _relate(report: Report) -> None:
    """Compute the CPU per file relative to the codec floor, once both are known."""
    cpu = {(row["scenario"], row["side"]): row["figures"].get("cpu_ms") for row in report.rows}
    ours, floor_ms = cpu.get(("files 1024", "outlast")), cpu.get(("codec floor", "pyvips"))
    if ours and floor_ms:
        report.ratio("cpu_over_codec_floor", sorted(ours)[len(ours) // 2] / sorted(floor_ms)[len(floor_ms) // 2])


def machine() -> str:
    """Return a description of this machine."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"


def print_line(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - command line output


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side; default 3")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    names = [name for name in SCENARIOS if name in options.scenarios or not options.scenarios]
    asyncio.run(run_until_signal(run(names, options.rounds, options.out.resolve()), 130))


if __name__ == "__main__":
    main()
