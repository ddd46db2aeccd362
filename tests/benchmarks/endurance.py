"""What grows with time or load: memory over many files, memory and speed with a backlog, and the start time."""

import statistics
import time

from tests.benchmarks import corpus
from tests.benchmarks.environment import BenchmarkEnvironment
from tests.benchmarks.report import Report
from tests.benchmarks.resource_usage import cpu_seconds, pss_mib
from tests.benchmarks.sides import Outlast, Peer

SOAK = 10_000
MEASUREMENTS = 40
LIMIT_SECONDS = 1800.0
BACKLOGS = (0, 1_000, 10_000, 100_000)
WARM, BEFORE = 24, 200


async def soak(environment: BenchmarkEnvironment, report: Report, _rounds: int) -> None:
    """Process ten thousand files with one worker; report the slope of its memory over the second half."""
    names = corpus.make(environment.files, "tiny", 6)
    async with environment.new_run() as run:
        await Outlast().enqueue_tasks(run, await run.tasks(names, SOAK))
        points = []
        async with Outlast().run_workers(run) as (worker,):
            pid, began = worker.process.pid, time.monotonic()
            for number in range(1, MEASUREMENTS + 1):
                await run.wait_for_count(SOAK * number // MEASUREMENTS, LIMIT_SECONDS)
                points.append((SOAK * number / MEASUREMENTS, pss_mib(pid)))
            seconds = time.monotonic() - began
    half = points[MEASUREMENTS // 2 :]
    slope, _ = statistics.linear_regression(*zip(*half, strict=True))
    report.series["soak memory by files in MiB of PSS"] = {"outlast": points}
    report.row("soak", "outlast", per_second=[SOAK / seconds], first_mib=[points[0][1]], last_mib=[points[-1][1]])
    report.ratio("soak_mib_per_1000_files", slope * 1000)


async def backlog(environment: BenchmarkEnvironment, report: Report, _rounds: int) -> None:
    """Measure a worker's memory and speed with up to a hundred thousand messages behind the measured ones."""
    names = corpus.make(environment.files, "1024", 6)
    mib, rate = {}, {}
    for behind in BACKLOGS:
        async with environment.new_run() as run:
            tasks = await run.tasks(names, WARM + BEFORE)
            await Outlast().enqueue_tasks(run, tasks)
            await Outlast().enqueue_tasks(run, (tasks * (behind // BEFORE))[:behind])
            async with Outlast().run_workers(run) as (worker,):
                began = await run.wait_for_count(WARM, LIMIT_SECONDS)
                rate[behind] = BEFORE / (await run.wait_for_count(WARM + BEFORE, LIMIT_SECONDS) - began)
                mib[behind] = pss_mib(worker.process.pid)
    for behind in BACKLOGS:
        report.row("backlog", f"{behind:,} waiting", mib=[mib[behind]], per_second=[rate[behind]])
    report.series["backlog by messages waiting in files a second"] = {"outlast": list(rate.items())}
    report.ratio("backlog_memory", mib[BACKLOGS[-1]] / mib[0])
    report.ratio("backlog_throughput", rate[BACKLOGS[-1]] / rate[0])


async def start(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Measure the seconds and the CPU from the command to the first stored file."""
    names = corpus.make(environment.files, "1024", 6)
    for side in (Outlast(), Peer()):
        seconds, cpu = [], []
        for _ in range(rounds):
            async with environment.new_run() as run:
                await side.enqueue_tasks(run, await run.tasks(names, 1))
                began = time.monotonic()
                async with side.run_workers(run) as (worker,):
                    seconds.append(await run.wait_for_count(1, LIMIT_SECONDS) - began)
                    cpu.append(cpu_seconds(worker.process.pid))
        report.row("start", side.name, seconds_to_first_file=seconds, cpu_seconds=cpu)
