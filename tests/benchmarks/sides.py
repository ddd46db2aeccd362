"""The two sides, Outlast and the Celery peer: how each gets its tasks, and how its workers run."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

from pydantic import SecretStr

from deploy.local.processes import Child, free_port
from schemas.jobs import Job, JobFile, Profile, output_key_for, task_id_for
from schemas.urls import source_key
from tests.benchmarks.environment import ROOT, BenchmarkRun, FileTask
from worker.broker.connection import Broker
from worker.broker.envelope import Envelope
from worker.observability.metrics import Metrics
from worker.settings import Settings

READY_SECONDS = 60.0
AT_ONCE = 200
QUIET = {"RECONCILE_EVERY_SECONDS": "0", "MAINTENANCE_EVERY_SECONDS": "0", "LOG_FORMAT": "json"}
"""Rows are inserted without webhooks, so a sweep would enqueue them a second time."""


class Side(Protocol):
    """How tasks are enqueued for one side, and how its workers run."""

    name: str

    async def enqueue_tasks(self, run: BenchmarkRun, tasks: Sequence[FileTask]) -> None:
        """Publish tasks to the queue."""

    def run_workers(self, run: BenchmarkRun, processes: int = 1) -> contextlib.AbstractAsyncContextManager[list[Child]]:
        """Run the workers within the context."""


class Outlast:
    """`outlast worker` with default settings."""

    name = "outlast"

    def __init__(self, **environment: str) -> None:
        self._environment = environment

    async def enqueue_tasks(self, run: BenchmarkRun, tasks: Sequence[FileTask]) -> None:
        settings = Settings.load(rabbitmq_url=SecretStr(run.rabbitmq_url))
        async with Broker(settings, Metrics("bench"), "bench") as broker:
            await broker.wait_ready()
            for at in range(0, len(tasks), AT_ONCE):
                jobs = [Envelope(job_of(task)) for task in tasks[at : at + AT_ONCE]]
                await asyncio.gather(*(broker.publish_job(envelope, 30) for envelope in jobs))

    @contextlib.asynccontextmanager
    async def run_workers(self, run: BenchmarkRun, processes: int = 1) -> AsyncIterator[list[Child]]:
        async with contextlib.AsyncExitStack() as stack:
            workers = []
            for number in range(processes):
                port = free_port()
                env = {**run.env, **QUIET, **self._environment, "METRICS_PORT": str(port)}
                argv = [sys.executable, "-m", "worker", "worker"]
                folder = run.environment.folder
                child = await Child.spawn(f"worker-{number}", argv, data_dir=folder, env=env, cwd=folder)
                stack.push_async_callback(child.stop, 10)
                await child.wait_until_ready(f"http://127.0.0.1:{port}/readyz", READY_SECONDS)
                workers.append(child)
            yield workers


class Peer:
    """A Celery worker with two processes, as documented for two cores, or with as many as given."""

    def __init__(self, processes: int = 2) -> None:
        self.name = "celery" if processes == 2 else f"celery x{processes}"
        self._processes = processes

    async def enqueue_tasks(self, run: BenchmarkRun, tasks: Sequence[FileTask]) -> None:
        await asyncio.to_thread(_send, run.rabbitmq_url, tasks)

    @contextlib.asynccontextmanager
    async def run_workers(self, run: BenchmarkRun, processes: int = 1) -> AsyncIterator[list[Child]]:
        async with contextlib.AsyncExitStack() as stack:
            workers = []
            for number in range(processes):
                argv = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.celery_peer", "worker"]
                argv += ["--pool=prefork", f"--concurrency={self._processes}"]
                argv += [f"--hostname=peer{number}@%h", "--loglevel=info"]
                env = {**run.env, "PYTHONPATH": str(ROOT)}
                child = await Child.spawn(f"peer-{number}", argv, data_dir=run.environment.folder, env=env, cwd=ROOT)
                stack.push_async_callback(child.stop, 10)
                workers.append(child)
            yield workers


def job_of(task: FileTask) -> Job:
    """Return the job that a task's webhook would become."""
    profile = Profile()
    file = JobFile(position=0, url=task.url, source_key=source_key(task.url))
    return Job(
        task_id=task_id_for(task.generation_id, (file,), profile),
        generation_id=task.generation_id,
        user_id=task.user_id,
        source="supabase",
        files=(file,),
        total_files=1,
        output_key=output_key_for([file.source_key]),
        profile=profile,
        event_at=datetime.now(UTC),
    )


def _send(rabbitmq_url: str, tasks: Sequence[FileTask]) -> None:
    with enqueuer(rabbitmq_url) as enqueue:
        for task in tasks:
            enqueue(task)


@contextlib.contextmanager
def enqueuer(rabbitmq_url: str) -> Iterator[Callable[[FileTask], None]]:
    """Yield a function that sends a task to the peer over one connection."""
    from tests.benchmarks import celery_peer  # noqa: PLC0415 - Celery is slow to import

    with celery_peer.app.connection_for_write(rabbitmq_url) as connection, connection.Producer() as producer:
        yield lambda task: celery_peer.store_file.apply_async(
            (task.url, task.user_id, task.generation_id), producer=producer
        )
