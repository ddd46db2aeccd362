"""Enqueues old generations and follows their tasks, a bounded number at a time.

A generation is recorded before its jobs are published, and recorded ones are not found again. So a run continues where
an interrupted one stopped. At its end, it finds the tasks that an interrupted run recorded but did not publish.
Memory does not grow with the number of generations: a page of rows and WINDOW tasks are held.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog

from handlers.database.reconcile_records import MissingQuery, ReconcileRecords
from handlers.database.task_queries import TaskQueries
from handlers.errors import RowRejectedError
from schemas.periodic import ReconcileEntry
from schemas.tasks import TaskState, TaskStatus
from worker.broker.batch_publisher import publish_jobs
from worker.broker.connection import Broker
from worker.broker.errors import PUBLISH_SECONDS
from worker.cli.adopt.past import PastSelection
from worker.periodic.sweep_plan import SweepPlanner

log = structlog.stdlib.get_logger(__name__)
WINDOW: Final = 300
"""No generation is enqueued while so many tasks are followed. Above 1,000 waiting jobs, the sweep does not run."""
POLL_SECONDS: Final = 0.5
GRACE_SECONDS: Final = 5
"""Allowed difference between the clocks of this machine and the database."""


@dataclass(slots=True)
class AdoptResult:
    """The counts of one run. `aborted`: it was stopped, or not confirmed.

    `enqueued`, `done` and `refused` count generations. The tasks of those `done` have all ended or wait for a retry;
    the database refused to record those `refused`. `retrying` counts tasks that wait for a retry. `stored_files` and
    `failed` count files of tasks that have ended, `failed` by error code.
    """

    enqueued: int = 0
    done: int = 0
    retrying: int = 0
    refused: int = 0
    stored_files: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    aborted: bool = False


class Adopter:
    """One run of `outlast adopt`. `on_done` is called with the number of generations that are done."""

    def __init__(
        self,
        records: ReconcileRecords,
        tasks: TaskQueries,
        broker: Broker,
        planner: SweepPlanner,
        stop: asyncio.Event,
        on_done: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._records = records
        self._tasks = tasks
        self._broker = broker
        self._planner = planner
        self._stop = stop
        self._on_done = on_done
        self._open: dict[UUID, str | None] = {}
        self._started = time.time()
        self.result = AdoptResult()

    async def run(self, selection: PastSelection) -> AdoptResult:
        """Enqueue the selected generations; return when their tasks have ended or wait for a retry, or when stopped.

        Raises:
            DatabaseUnavailableError, BrokerUnavailableError: run it again to continue.
        """
        pace = Pace(selection.rate)
        async for entry in self._entries(selection):
            while len(self._open) >= WINDOW and not self._stop.is_set():
                await self._count_ended()
            await pace.wait(self._stop)
            if self._stop.is_set():
                break
            await self._enqueue(entry)
            if selection.limit is not None and self.result.enqueued >= selection.limit:
                break
        while self._open and not self._stop.is_set():
            await self._count_ended()
        self.result.aborted = self._stop.is_set()
        return self.result

    async def _entries(self, selection: PastSelection) -> AsyncIterator[ReconcileEntry]:
        """Yield the generations to take, oldest first, then the tasks that an earlier run left queued."""
        place: dict[str, Any] | None = None
        while True:
            idle_seconds = int(time.time() - self._started) + GRACE_SECONDS
            query = MissingQuery(selection.since, selection.until, idle_seconds, past=selection.binding)
            page = await self._records.missing(query, place)
            for entry in page.entries:
                yield entry
            place = page.next
            if place is None:
                return

    async def _enqueue(self, entry: ReconcileEntry) -> None:
        """Record and publish the jobs of one generation. If the database refuses it, log that and go on."""
        jobs = await asyncio.to_thread(self._planner.jobs, entry)
        try:
            task_ids = await self._records.requeue(jobs)
        except RowRejectedError as error:
            ids = entry.model_dump(include={"binding", "generation_id"})
            log.warning("generation not enqueued", **ids, error=str(error))
            self.result.refused += 1
            return
        to_publish = [job for job in jobs if job.task_id in task_ids]
        await publish_jobs(self._broker, to_publish, PUBLISH_SECONDS)
        self.result.enqueued += 1
        if to_publish:
            self._open.update({job.task_id: entry.generation_id for job in to_publish})
        else:
            self._generation_done()

    async def _count_ended(self) -> None:
        """Wait POLL_SECONDS, then count the tasks that have ended or wait for a retry, and stop following them."""
        await wait_for_stop(self._stop, POLL_SECONDS)
        states = await self._tasks.states(list(self._open))
        for task_id in list(self._open):
            state = states.get(task_id)
            if state is not None and not state.ready and state.status is not TaskStatus.RETRYING:
                continue
            generation = self._open.pop(task_id)
            if state is not None:
                self._count(state)
            if generation not in self._open.values():
                self._generation_done()

    def _count(self, state: TaskState) -> None:
        if not state.ready:
            self.result.retrying += 1
        elif state.result is not None:
            self.result.stored_files += state.result.successful_files
            self.result.failed.update(str(file.get("code")) for file in state.result.failed_files)

    def _generation_done(self) -> None:
        self.result.done += 1
        self._on_done(self.result.done)


async def wait_for_stop(stop: asyncio.Event, seconds: float) -> None:
    """Wait until `stop` is set, for at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()


class Pace:
    """Lets at most `rate` generations a second through; without a rate, all."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = time.monotonic()

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait until the next generation may be enqueued, or until `stop` is set."""
        await wait_for_stop(stop, self._next - time.monotonic())
        self._next = max(self._next, time.monotonic() - self._interval) + self._interval
