"""Saturated throughput: a queue that is never empty, one worker per side, in turn."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks import corpus, quality
from tests.benchmarks.environment import BenchmarkEnvironment
from tests.benchmarks.report import Report
from tests.benchmarks.resource_usage import Meter, cpu_seconds
from tests.benchmarks.sides import Outlast, Peer, Side

WARM = 24
LIMIT_SECONDS = 600.0
COUNTS = {"1024": 300, "big": 60, "tiny": 400, "mixed": 200}
FAR_MS = 20
EACH = {"1024": 6, "big": 2, "tiny": 6, "mixed": 4}


@dataclass(frozen=True)
class TurnResult:
    """The result of one run: files per second, CPU milliseconds per file, peak MiB, and the least SSIM of a picture."""

    rate: float
    cpu_ms: float
    peak: float
    ssim: float


async def turn(
    environment: BenchmarkEnvironment,
    side: Side,
    names: Sequence[str],
    count: int,
    users: int | None = None,
    processes: int = 1,
    milliseconds: int = 0,
) -> TurnResult:
    """Let one side store `count` files after WARM others, fewer when several workers had begun some by then."""
    async with environment.new_run(milliseconds) as run:
        tasks = await run.tasks(names, WARM + count, users)
        await side.enqueue_tasks(run, tasks)
        async with side.run_workers(run, processes) as workers:
            pids = [worker.process.pid for worker in workers]
            began = await run.wait_for_count(WARM, LIMIT_SECONDS)
            counted = WARM + count - await run.completed_count()
            used = sum(map(cpu_seconds, pids))
            async with Meter(pids) as meter:
                ended = await run.wait_for_count(WARM + count, LIMIT_SECONDS)
            used = sum(map(cpu_seconds, pids)) - used
        ssim = await quality.least_ssim(run, environment.files)
        return TurnResult(counted / (ended - began), 1000 * used / counted, meter.peak, ssim)


async def throughput(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Run both sides over every mix."""
    for mix, count in COUNTS.items():
        names = corpus.make(environment.files, mix, EACH[mix])
        turns: dict[str, list[TurnResult]] = {"outlast": [], "celery": []}
        for _ in range(rounds):
            for side in (Outlast(), Peer()):
                turns[side.name].append(await turn(environment, side, names, count))
        for name, found in turns.items():
            report.row(
                f"files {mix}",
                name,
                per_second=[one.rate for one in found],
                cpu_ms=[one.cpu_ms for one in found],
                peak_mib=[one.peak for one in found],
                least_ssim=[one.ssim for one in found],
            )
        pairs = list(zip(turns["outlast"], turns["celery"], strict=True))
        report.ratio(f"throughput_{mix}", statistics.median(ours.rate / theirs.rate for ours, theirs in pairs))
        report.ratio(f"cpu_{mix}_over_peer", statistics.median(ours.cpu_ms / theirs.cpu_ms for ours, theirs in pairs))
        least_ssim = {name: min(one.ssim for one in found) for name, found in turns.items()}
        report.ratio(f"ssim_{mix}_over_peer", least_ssim["outlast"] / least_ssim["celery"])
        if mix == "1024":
            report.ratio("memory_over_peer", statistics.median(ours.peak / theirs.peak for ours, theirs in pairs))


async def far(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """The 1024 mix with Supabase and the source FAR_MS away; also with a Celery process for each concurrent job."""
    names = corpus.make(environment.files, "1024", EACH["1024"])
    turns: dict[str, list[TurnResult]] = {}
    for _ in range(rounds):
        for side in (Outlast(), Peer(), Peer(8)):
            turns.setdefault(side.name, []).append(await turn(environment, side, names, 200, milliseconds=FAR_MS))
    for name, found in turns.items():
        per_second, peak = [one.rate for one in found], [one.peak for one in found]
        report.row(f"{FAR_MS} ms away", name, per_second=per_second, peak_mib=peak)
    for name in list(turns)[1:]:
        pairs = zip(turns["outlast"], turns[name], strict=True)
        label = f"throughput_far_over_{name.replace(' ', '_')}"
        report.ratio(label, statistics.median(ours.rate / theirs.rate for ours, theirs in pairs))


async def duplicates(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """The same few files of one user repeatedly, and files that are new.

    Duplicates are found by their content, and by their URL if the source is one of IMMUTABLE_SOURCES.
    """
    names = corpus.make(environment.files, "1024", EACH["1024"])
    by_url = Outlast(IMMUTABLE_SOURCES=environment.source_url)
    turns: dict[str, list[TurnResult]] = {"first time": [], "again": [], "again by URL": []}
    for _ in range(rounds):
        turns["first time"].append(await turn(environment, Outlast(), names, 200))
        turns["again"].append(await turn(environment, Outlast(), names, 600, users=1))
        turns["again by URL"].append(await turn(environment, by_url, names, 600, users=1))
    for name, found in turns.items():
        report.row("duplicates", name, per_second=[one.rate for one in found], cpu_ms=[one.cpu_ms for one in found])
    for ratio, name in (("duplicates_over_first", "again"), ("duplicates_by_url_over_first", "again by URL")):
        pairs = zip(turns["first time"], turns[name], strict=True)
        report.ratio(ratio, statistics.median(again.rate / first.rate for first, again in pairs))


async def scaling(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """One, two and four workers, which share the cores of this machine."""
    names = corpus.make(environment.files, "1024", EACH["1024"])
    rates = {
        processes: [(await turn(environment, Outlast(), names, 600, processes=processes)).rate for _ in range(rounds)]
        for processes in (1, 2, 4)
    }
    for processes, found in rates.items():
        report.row("scaling", f"{processes} workers", per_second=found)
    report.series["scaling by workers in files a second"] = {
        "outlast": [(processes, statistics.median(found)) for processes, found in rates.items()]
    }
    report.ratio("two_workers_over_one", statistics.median(rates[2]) / statistics.median(rates[1]))
