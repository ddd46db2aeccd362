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
COUNTS = {"1024": 300, "jpeg-80": 300, "big": 60, "tiny": 400, "mixed": 200}
EACH = {"1024": 6, "jpeg-80": 6, "big": 2, "tiny": 6, "mixed": 4}
FAR_MS = (20, 80)
FAR_MIXES = ("1024", "tiny")
PEER_PROCESSES = (2, 3, 4, 8)
"""Numbers of Celery processes that are tried for each mix. The best one is the peer."""


@dataclass(frozen=True)
class Measurement:
    """The result of one run: files per second, CPU milliseconds per file, peak MiB, and the least SSIM of a picture.

    `cpu_ms` is that of the workers with their codec processes, and `database_ms` that of PostgreSQL. `gateway_ms` is
    that of the gateway, which stands for Supabase's servers.
    """

    rate: float
    cpu_ms: float
    database_ms: float
    gateway_ms: float
    peak: float
    ssim: float


async def measure(
    environment: BenchmarkEnvironment,
    side: Side,
    names: Sequence[str],
    count: int,
    users: int | None = None,
    processes: int = 1,
    milliseconds: int = 0,
) -> Measurement:
    """Let one side store `count` files after WARM others, fewer when several workers had begun some by then."""
    async with environment.new_run(milliseconds) as run:
        tasks = await run.tasks(names, WARM + count, users)
        await side.enqueue_tasks(run, tasks)
        async with side.run_workers(run, processes) as workers:
            pids = [worker.process.pid for worker in workers]
            groups = (pids, [run.postgres_pid], [run.gateway_pid])
            began = await run.wait_for_count(WARM, LIMIT_SECONDS)
            counted = WARM + count - await run.completed_count()
            before = [sum(map(cpu_seconds, group)) for group in groups]
            async with Meter(pids) as meter:
                ended = await run.wait_for_count(WARM + count, LIMIT_SECONDS)
            used = [sum(map(cpu_seconds, group)) - was for group, was in zip(groups, before, strict=True)]
        ssim = await quality.least_ssim(run, environment.files)
        milliseconds_each = [1000 * seconds / counted for seconds in used]
        return Measurement(counted / (ended - began), *milliseconds_each, meter.peak, ssim)


async def best_peer(environment: BenchmarkEnvironment, names: Sequence[str], count: int) -> Peer:
    """Return the peer with the number of processes that is fastest in one run each."""
    rates = {
        processes: (await measure(environment, Peer(processes), names, count)).rate for processes in PEER_PROCESSES
    }
    return Peer(max(rates, key=rates.__getitem__))


async def throughput(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Run both sides over every mix."""
    for mix, count in COUNTS.items():
        names = corpus.make(environment.files, mix, EACH[mix])
        peer = await best_peer(environment, names, count // 2)
        measured: dict[str, list[Measurement]] = {"outlast": [], peer.name: []}
        for _ in range(rounds):
            for side in (Outlast(), peer):
                measured[side.name].append(await measure(environment, side, names, count))
        for name, found in measured.items():
            _add_row(report, f"files {mix}", name, found)
        ours, theirs = measured["outlast"], measured[peer.name]
        report.ratio(f"throughput_{mix}", median_ratio(ours, theirs, "rate"))
        report.ratio(f"cpu_{mix}_over_peer", median_ratio(ours, theirs, "cpu_ms"))
        report.ratio(f"ssim_{mix}_over_peer", min(one.ssim for one in ours) / min(one.ssim for one in theirs))
        if mix == "1024":
            report.ratio("memory_over_peer", median_ratio(ours, theirs, "peak"))


async def far(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Run FAR_MIXES with a round-trip time of FAR_MS; the peer has eight processes, which mostly wait."""
    for milliseconds in FAR_MS:
        for mix in FAR_MIXES:
            names = corpus.make(environment.files, mix, EACH[mix])
            sides = (Outlast(), Peer(8))
            measured: dict[str, list[Measurement]] = {side.name: [] for side in sides}
            for _ in range(rounds):
                for side in sides:
                    measured[side.name].append(await measure(environment, side, names, 200, milliseconds=milliseconds))
            for name, found in measured.items():
                _add_row(report, f"{mix}, {milliseconds} ms away", name, found)
            ours, theirs = measured.values()
            label = f"{mix}_{milliseconds}_ms_away"
            report.ratio(f"throughput_{label}", median_ratio(ours, theirs, "rate"))
            report.ratio(f"memory_{label}", median_ratio(ours, theirs, "peak"))


def _add_row(report: Report, scenario: str, side: str, found: Sequence[Measurement]) -> None:
    report.row(
        scenario,
        side,
        per_second=[one.rate for one in found],
        cpu_ms=[one.cpu_ms for one in found],
        database_ms=[one.database_ms for one in found],
        gateway_ms=[one.gateway_ms for one in found],
        peak_mib=[one.peak for one in found],
        least_ssim=[one.ssim for one in found],
    )


def median_ratio(ours: Sequence[Measurement], theirs: Sequence[Measurement], figure: str) -> float:
    """Return the median over the rounds of one side's figure over the other side's."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(getattr(one, figure) / getattr(other, figure) for one, other in pairs)


async def duplicates(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Store the same few files of one user repeatedly, and files that are new.

    Duplicates are found by their content, and by their URL if the source is one of IMMUTABLE_SOURCES.
    """
    names = corpus.make(environment.files, "1024", EACH["1024"])
    by_url = Outlast(IMMUTABLE_SOURCES=environment.source_url)
    measured: dict[str, list[Measurement]] = {"first time": [], "again": [], "again by URL": []}
    for _ in range(rounds):
        measured["first time"].append(await measure(environment, Outlast(), names, 200))
        measured["again"].append(await measure(environment, Outlast(), names, 600, users=1))
        measured["again by URL"].append(await measure(environment, by_url, names, 600, users=1))
    for name, found in measured.items():
        _add_row(report, "duplicates", name, found)
    first, again, by_its_url = measured.values()
    report.ratio("duplicates_over_first", median_ratio(again, first, "rate"))
    report.ratio("duplicates_by_url_over_first", median_ratio(by_its_url, first, "rate"))


async def scaling(environment: BenchmarkEnvironment, report: Report, rounds: int) -> None:
    """Run one, two and four workers, which share the cores of this machine."""
    names = corpus.make(environment.files, "1024", EACH["1024"])
    rates = {
        processes: [
            (await measure(environment, Outlast(), names, 600, processes=processes)).rate for _ in range(rounds)
        ]
        for processes in (1, 2, 4)
    }
    for processes, found in rates.items():
        report.row("scaling", f"{processes} workers", per_second=found)
    report.series["scaling by workers in files a second"] = {
        "outlast": [(processes, statistics.median(found)) for processes, found in rates.items()]
    }
    report.ratio("two_workers_over_one", statistics.median(rates[2]) / statistics.median(rates[1]))
