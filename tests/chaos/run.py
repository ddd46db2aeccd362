"""`python -m tests.chaos.run [--long]`: send generations through a world that falls apart, and count.

Exit 0: nothing is lost, stored twice or wrong.
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
from tests.chaos.collect import collect
from tests.chaos.feeder import Feeder
from tests.chaos.judge import Finding, judge
from tests.chaos.plan import draw
from tests.chaos.saboteur import Saboteur, schedule
from tests.chaos.watch import Watch
from tests.chaos.world import Climate, World

OUT = Path(".outlast/chaos")
SHOWN = 40


@dataclass(frozen=True)
class Form:
    """How much is sent, in how many seconds, and what is done to it; `patience` is how long it may take to rest."""

    generations: int
    seconds: float
    workers: int
    patience: float
    faults: dict[str, int]


SHORT = Form(
    generations=60,
    seconds=25,
    workers=2,
    patience=100,
    faults={"kill_worker": 3, "kill_broker": 1, "kill_database": 1, "storage_outage": 1, "cut_supabase": 1}
    | {"cut_broker": 1, "kill_receiver": 1, "roll_worker": 1},
)
LONG = Form(
    generations=2000,
    seconds=700,
    workers=2,
    patience=300,
    faults={"kill_worker": 22, "stop_broker": 2, "kill_broker": 3, "stop_database": 2, "kill_database": 2}
    | {"storage_outage": 4, "cut_supabase": 5, "cut_broker": 5, "refuse_supabase": 2, "refuse_broker": 2}
    | {"slow_supabase": 2, "slow_broker": 2, "kill_receiver": 4, "roll_worker": 5},
)


async def run(form: Form, seed: int, out: Path, samples: Path, climate: Climate, say: Callable[[str], None]) -> int:
    """Run one form; return the number of findings, which are told and written down in `out`."""
    shutil.rmtree(out / "world", ignore_errors=True)
    say(f"starting the world, seed {seed}")
    async with World(out / "world", samples, climate, seed=seed, workers=form.workers) as world:
        generations = draw(seed, form.generations, world.source.url)
        feeder, saboteur = Feeder(world), Saboteur(world, seed, say)
        watch = Watch(world, feeder, say)
        started = time.monotonic()
        watching = asyncio.create_task(watch.run(started))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(feeder.run(generations, form.seconds, started))
                group.create_task(saboteur.run(schedule(seed, form.seconds * 0.8, form.faults), started))
            say("all is sent and all harm is done; waiting for it to come to rest")
            rested = await watch.rest(len(generations), form.patience)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        say("at rest; counting" if rested else f"no rest within {form.patience:g} s; counting all the same")
        seen = await collect(world, generations)
        findings = judge(seen)
        if not rested and not findings:
            findings.append(Finding("unfinished", f"it did not come to rest within {form.patience:g} s"))
        told = report.figures(world, seen, findings, saboteur.counts, watch.samples)
        await asyncio.to_thread(report.write, out, told, findings, saboteur.done, watch.samples)
    _tell(told, findings, out, say)
    return len(findings)


def _tell(told: dict, findings: list[Finding], out: Path, say: Callable[[str], None]) -> None:
    say(f"the count; report.json and report.png are in {out}\n{report.table(told)}")
    for finding in findings[:SHOWN]:
        say(f"FOUND {finding.kind}: {finding.what}")
    if len(findings) > SHOWN:
        say(f"... and {len(findings) - SHOWN} more, in report.json")


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--long", action="store_true", help="2,000 generations instead of 60")
    parser.add_argument("--generations", type=int, help="another number of generations")
    parser.add_argument("--seconds", type=float, help="time to send them in")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where the report goes; default .outlast/chaos/<form>")
    parser.add_argument("--samples", type=Path, default=OUT / "samples", help="where sample files are, or are made")
    parser.add_argument("--keep-webhooks", action="store_true", help="lose no webhook: nothing then needs the sweep")
    given = parser.parse_args()
    form = LONG if given.long else SHORT
    form = replace(form, generations=given.generations or form.generations, seconds=given.seconds or form.seconds)
    climate = Climate(lost=0.0 if given.keep_webhooks else 0.1, twice=0.1, uploads=0.12, calls=0.01)
    out = (given.out or OUT / ("long" if given.long else "short")).resolve()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f}  {text}", flush=True)  # noqa: T201 - its output

    async def work() -> int:
        return 1 if await run(form, given.seed, out, given.samples.resolve(), climate, say) else 0

    return asyncio.run(run_until_signal(work(), 130))


if __name__ == "__main__":
    sys.exit(main())
