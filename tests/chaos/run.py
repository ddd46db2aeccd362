"""`python -m tests.chaos.run [--long]`: process generations while faults are injected, then count deviations.

Exit code 0: nothing is lost, stored twice or wrong.
"""

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.local.signals import run_until_signal
from tests.chaos import report
from tests.chaos.audit import Finding, audit
from tests.chaos.collect import collect
from tests.chaos.environment import ChaosEnvironment, FaultRates
from tests.chaos.fault_injector import FaultInjector, schedule_faults
from tests.chaos.generation_plan import draw_generations
from tests.chaos.inserter import GenerationInserter
from tests.chaos.monitor import ProgressMonitor

OUT = Path(".outlast/chaos")
SHOWN = 40


@dataclass(frozen=True)
class ChaosRun:
    """A run: generations, seconds to send them in, workers, faults, and `patience`, the seconds to become idle."""

    generations: int
    seconds: float
    workers: int
    patience: float
    faults: dict[str, int]


SHORT = ChaosRun(
    generations=60,
    seconds=25,
    workers=2,
    patience=100,
    faults={"kill_worker": 3, "kill_broker": 1, "kill_database": 1, "storage_outage": 1, "cut_supabase": 1}
    | {"cut_broker": 1, "kill_receiver": 1, "roll_worker": 1, "delete_queue": 1, "apply_sql": 1},
)
LONG = ChaosRun(
    generations=2000,
    seconds=700,
    workers=2,
    patience=300,
    faults={"kill_worker": 22, "stop_broker": 2, "kill_broker": 3, "stop_database": 2, "kill_database": 2}
    | {"storage_outage": 4, "cut_supabase": 5, "cut_broker": 5, "refuse_supabase": 2, "refuse_broker": 2}
    | {"slow_supabase": 2, "slow_broker": 2, "kill_receiver": 4, "roll_worker": 5}
    | {"delete_queue": 8, "apply_sql": 8},
)


async def run(
    scenario: ChaosRun, seed: int, out: Path, samples: Path, rates: FaultRates, log: Callable[[str], None]
) -> int:
    """Run a scenario, write its report to `out`, and return how many things were not as they must be (`Finding`)."""
    shutil.rmtree(out / "stack", ignore_errors=True)
    log(f"starting all processes, seed {seed}")
    async with ChaosEnvironment(out / "stack", samples, rates, seed=seed, workers=scenario.workers) as environment:
        generations = draw_generations(seed, scenario.generations, environment.source.url)
        inserter, injector = GenerationInserter(environment), FaultInjector(environment, seed, log)
        monitor = ProgressMonitor(environment, inserter, log)
        started = time.monotonic()
        monitoring = asyncio.create_task(monitor.run(started))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(inserter.run(generations, scenario.seconds, started))
                group.create_task(injector.run(schedule_faults(seed, scenario.seconds * 0.8, scenario.faults), started))
            log("all generations are inserted and all faults injected; waiting until idle")
            idle = await monitor.wait_until_idle(len(generations), scenario.patience)
        finally:
            monitoring.cancel()
            await asyncio.gather(monitoring, return_exceptions=True)
        log(
            "idle; collecting the results"
            if idle
            else f"not idle within {scenario.patience:g} s; collecting the results"
        )
        observed = await collect(environment, generations)
        findings = audit(observed)
        if not idle and not findings:
            findings.append(Finding("unfinished", f"it was not idle within {scenario.patience:g} s"))
        figures = report.figures(environment, observed, findings, injector.counts, monitor.samples)
        await asyncio.to_thread(report.write, out, figures, findings, injector.done, monitor.samples)
    _log_report(figures, findings, out, log)
    return len(findings)


def _log_report(figures: dict, findings: list[Finding], out: Path, log: Callable[[str], None]) -> None:
    log(f"results; report.json and report.png are in {out}\n{report.table(figures)}")
    for finding in findings[:SHOWN]:
        log(f"FOUND {finding.kind}: {finding.what}")
    if len(findings) > SHOWN:
        log(f"... and {len(findings) - SHOWN} more, in report.json")


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--long", action="store_true", help="2,000 generations instead of 60")
    parser.add_argument("--generations", type=int, help="another number of generations")
    parser.add_argument("--seconds", type=float, help="time to send them in")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder of the report; default .outlast/chaos/<form>")
    parser.add_argument(
        "--samples", type=Path, default=OUT / "samples", help="folder of the sample files, created when missing"
    )
    parser.add_argument(
        "--keep-webhooks", action="store_true", help="do not drop webhooks, so that the sweep is not needed"
    )
    options = parser.parse_args()
    scenario = LONG if options.long else SHORT
    scenario = replace(
        scenario, generations=options.generations or scenario.generations, seconds=options.seconds or scenario.seconds
    )
    rates = FaultRates(lost=0.0 if options.keep_webhooks else 0.1, twice=0.1, uploads=0.12, calls=0.01, batches=0.2)
    out = (options.out or OUT / ("long" if options.long else "short")).resolve()
    began = time.monotonic()

    def log(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f}  {text}", flush=True)  # noqa: T201 - command line output

    async def work() -> int:
        return 1 if await run(scenario, options.seed, out, options.samples.resolve(), rates, log) else 0

    return asyncio.run(run_until_signal(work(), 130))


if __name__ == "__main__":
    sys.exit(main())
