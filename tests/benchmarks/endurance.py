"""What grows with time or load: memory over many files, memory before a long backlog, and the time to start."""

import statistics
import time

from tests.benchmarks import corpus
from tests.benchmarks.ground import Ground
from tests.benchmarks.meter import cpu_seconds, pss_mib
from tests.benchmarks.report import Report
from tests.benchmarks.sides import Outlast, Peer

SOAK = 10_000
LOOKS = 40
LIMIT_SECONDS = 1800.0
BACKLOG = 100_000
BEFORE = 200


async def soak(ground: Ground, report: Report, _rounds: int) -> None:
    """Ten thousand files through one worker; the slope of its memory over the second half."""
    names = corpus.make(ground.files, "tiny", 6)
    async with ground.fresh() as run:
        await Outlast().hand_in(run, await run.errands(names, SOAK))
        points = []
        async with Outlast().working(run) as (worker,):
            pid, began = worker.process.pid, time.monotonic()
            for look in range(1, LOOKS + 1):
                await run.until(SOAK * look // LOOKS, LIMIT_SECONDS)
                points.append((SOAK * look / LOOKS, pss_mib(pid)))
            seconds = time.monotonic() - began
    half = points[LOOKS // 2 :]
    slope, _ = statistics.linear_regression(*zip(*half, strict=True))
    report.series["soak memory by files in MiB of PSS"] = {"outlast": points}
    report.row("soak", "outlast", per_second=[SOAK / seconds], first_mib=[points[0][1]], last_mib=[points[-1][1]])
    report.ratio("soak_mib_per_1000_files", slope * 1000)


async def backlog(ground: Ground, report: Report, _rounds: int) -> None:
    """A worker's memory with nothing behind the first files, and with a hundred thousand messages."""
    names = corpus.make(ground.files, "1024", 6)
    found = {}
    for behind in (0, BACKLOG):
        async with ground.fresh() as run:
            errands = await run.errands(names, BEFORE)
            await Outlast().hand_in(run, errands)
            await Outlast().hand_in(run, (errands * (behind // BEFORE))[:behind])
            async with Outlast().working(run) as (worker,):
                await run.until(BEFORE, LIMIT_SECONDS)
                found[behind] = pss_mib(worker.process.pid)
    for behind, mib in found.items():
        report.row("backlog", f"{behind:,} waiting", mib=[mib])
    report.ratio("backlog_memory", found[BACKLOG] / found[0])


async def start(ground: Ground, report: Report, rounds: int) -> None:
    """From the command to the first file on its row, and the CPU that took."""
    names = corpus.make(ground.files, "1024", 6)
    for side in (Outlast(), Peer()):
        seconds, cpu = [], []
        for _ in range(rounds):
            async with ground.fresh() as run:
                await side.hand_in(run, await run.errands(names, 1))
                began = time.monotonic()
                async with side.working(run) as (worker,):
                    seconds.append(await run.until(1, LIMIT_SECONDS) - began)
                    cpu.append(cpu_seconds(worker.process.pid))
        report.row("start", side.name, seconds_to_first_file=seconds, cpu_seconds=cpu)
