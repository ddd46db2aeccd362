"""Estimates files, bytes and time of an adoption from a sample of links, which are requested but not downloaded."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from handlers.download import Downloader
from handlers.errors import FileProcessingError
from schemas.jobs import Job, Queue
from schemas.tasks import WorkerStats
from worker.cli.adopt.past import PastCount, PastSelection
from worker.periodic.sweep_plan import SweepPlanner

PROBES_AT_ONCE: Final = 8
LINKS_PER_ROW: Final = 3
LIVE: Final = "live"
ASSUMED_TASK_SECONDS: Final = 2.0
"""Assumed duration of a task while none has been completed."""
ASSUMED_SLOTS: Final = 8
"""Assumed number of jobs processed at the same time while no worker runs: as by one worker on one core."""
DEAD_LINK_SHARE: Final = 0.1
"""Duration of a task with dead links, as a share of one that stores files."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The work of an adoption. `links` counts the sampled links: `live`, or the error code of the request.

    `size` is the mean of the sizes that the sources sent, in bytes; None if none sent one. `workers` run now;
    without any, `seconds` is estimated for one.
    """

    generations: int
    tasks: int
    files: int
    links: Counter[str]
    size: float | None
    seconds: float
    workers: int

    @property
    def live_share(self) -> float:
        """The share of the sampled links that can still be downloaded, 0 to 1."""
        return self.links[LIVE] / self.links.total() if self.links else 0.0

    @property
    def bytes(self) -> int | None:
        """Bytes to download; None if no source sent a size."""
        return None if self.size is None else round(self.files * self.live_share * self.size)

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate for the JSON output."""
        return {
            "generations": self.generations,
            "files": self.files,
            "live_files": round(self.files * self.live_share),
            "bytes": self.bytes,
            "seconds": round(self.seconds),
            "workers": self.workers,
            "sample": {"links": self.links.total(), **self.links},
        }


async def make_estimate(
    count: PastCount, selection: PastSelection, planner: SweepPlanner, downloader: Downloader, workers: WorkerStats
) -> Estimate:
    """Plan the sampled generations, request a part of their links, and extrapolate."""
    plans = [await asyncio.to_thread(planner.jobs, entry) for entry in count.sample]
    links, sizes = await _probe(downloader, _links(plans))
    generations = min(count.generations, selection.limit or count.generations)
    ratio = generations / len(plans) if plans else 0.0
    files = round(ratio * sum(len(job.files) for jobs in plans for job in jobs))
    tasks = round(ratio * sum(map(len, plans)))
    slots = sum(_slots(stats) for stats in workers.workers.values())
    live = links[LIVE] / links.total() if links else 1.0
    per_task = (count.seconds_per_task or ASSUMED_TASK_SECONDS) * max(live, DEAD_LINK_SHARE)
    by_work = tasks * per_task / (slots or ASSUMED_SLOTS)
    by_rate = generations / selection.rate if selection.rate else 0.0
    size = sum(sizes) / len(sizes) if sizes else None
    return Estimate(generations, tasks, files, links, size, max(by_work, by_rate), len(workers.workers))


def _links(plans: Sequence[Sequence[Job]]) -> list[str]:
    """Return some links of each sampled generation."""
    return [url for jobs in plans for url in [file.url for job in jobs for file in job.files][:LINKS_PER_ROW]]


def _slots(stats: dict[str, Any]) -> int:
    """Return how many jobs of the bulk queue a worker runs at the same time."""
    concurrency = stats.get("concurrency")
    slots = concurrency.get(Queue.BULK.value) if isinstance(concurrency, dict) else None
    return slots if isinstance(slots, int) else 1


async def _probe(downloader: Downloader, urls: Sequence[str]) -> tuple[Counter[str], list[int]]:
    """Request the links; return how many are live or fail, by error code, and the sizes that the sources sent."""
    semaphore, links, sizes = asyncio.Semaphore(PROBES_AT_ONCE), Counter[str](), []

    async def probe(url: str) -> None:
        async with semaphore:
            try:
                size = await downloader.probe(url, count_denied=False)
            except FileProcessingError as error:
                links[error.code] += 1
                return
        links[LIVE] += 1
        if size is not None:
            sizes.append(size)

    async with asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(probe(url))
    return links, sizes
