"""Starts a receiver or a worker and runs it until it is asked to stop. `resources.py` opens what both need."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import stamina
import structlog
from aiohttp import web

from handlers.codec.codec import Codec
from handlers.codec.sandbox.privileges import forbid_inspection
from handlers.database.client import Supabase
from handlers.database.notice_records import NoticeRecords
from handlers.database.object_records import ObjectRecords
from handlers.database.reconcile_records import ReconcileRecords
from handlers.database.task_queries import TaskQueries
from handlers.database.task_records import TaskRecords
from handlers.download import Downloader
from handlers.download.immutable import ImmutableSources
from handlers.errors import FileProcessingError
from handlers.pipeline.state import PipelineDeps
from handlers.sources import SOURCES
from handlers.storage.orphans import OrphanRemover
from handlers.tempdirs import check_free_space, remove_abandoned
from worker.broker.connection import Broker
from worker.celery_compat.inbox import CeleryInbox
from worker.celery_compat.reply import send_result
from worker.consume.attempt import Attempt
from worker.consume.circuit import Circuit, Dependency
from worker.consume.consumer import Consumer, DeliveryHandler
from worker.consume.context import WorkerContext
from worker.consume.delivery import Delivery
from worker.consume.progress import ProgressWriter
from worker.consume.retry_policy import RetryPolicy
from worker.consume.worker import Worker
from worker.dead_letters.source_refresh import SourceRefresher
from worker.forward.job import MessageKind, SendJob
from worker.forward.message import FORWARD_PREFIX, ForwardedWebhook
from worker.notices.events import Notices
from worker.notices.message import NOTICE_PREFIX, NoticeMessage
from worker.observability import tracing
from worker.observability.metrics import Metrics
from worker.periodic.maintenance import MaintenanceJob, MaintenanceRunner, is_maintenance
from worker.periodic.optimize import Optimizer
from worker.periodic.reconcile import Reconciler
from worker.periodic.schedule import KilledTaskReaper, SweepJob, build_schedule, notice_slots, run_schedule
from worker.resources import VERSION, Resources
from worker.runtime import return_freed_memory, serve, wait_first
from worker.settings import Settings
from worker.web.health import Check, add_health
from worker.web.problem_details import problem_middleware

log = structlog.stdlib.get_logger(__name__)
FILES_AHEAD: Final = 4
"""While at least this many files wait for each codec process, database calls need not be fast: if a file takes 25 ms,
four take 0.1 s."""


async def run_receiver(settings: Settings, stop: asyncio.Event) -> None:
    """Serve webhooks until `stop` is set."""
    from worker.web.receiver import Receiver  # noqa: PLC0415 - loads 4 MB that a worker never needs

    return_freed_memory()
    settings.for_receiver()
    log.info("receiver starts", version=VERSION, settings=settings.for_log())
    metrics = Metrics(VERSION)
    sources = [source.from_settings(settings) for source in SOURCES]
    with tracing.configured("outlast-receiver"):
        async with Resources(settings, metrics) as resources:
            broker = await resources.broker("receiver")
            supabase = await resources.supabase_if_configured()
            app = Receiver(settings, sources, broker, metrics, supabase).app()
            async with serve(app, settings.receiver_host, settings.receiver_port):
                await wait_first(stop.wait(), _topology_error(broker))
    log.info("receiver stopped")


async def run_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Consume jobs until `stop` is set. Then let running jobs finish, and return the rest to their queues."""
    settings.for_worker()
    metrics = Metrics(VERSION)
    async with worker_parts(settings, metrics, await prepare_worker(settings)) as parts:
        app = web.Application(middlewares=[problem_middleware])
        add_health(app, metrics, readiness_checks(parts), settings.metrics_token)
        async with serve(app, settings.metrics_host, settings.metrics_port):
            await consume(settings, metrics, parts, stop)
    log.info("worker stopped")


async def prepare_worker(settings: Settings) -> str:
    """Forbid inspection of this process, remove files of ended processes from TEMP_DIR; return the worker's name."""
    forbid_inspection()
    name = f"{socket.gethostname()}-{os.getpid()}"
    log.info("worker starts", version=VERSION, worker=name, settings=settings.for_log())
    removed = await asyncio.to_thread(remove_abandoned, settings.temp_dir)
    log.info("removed old temporary files", folder=str(settings.temp_dir), removed=removed)
    return name


async def consume(settings: Settings, metrics: Metrics, parts: "WorkerParts", stop: asyncio.Event) -> None:
    """Consume jobs until `stop` is set, or until the worker is told to stop. Raises TopologyError."""
    worker = parts.worker
    await wait_first(stop.wait(), worker.start())
    background = [
        asyncio.create_task(CeleryInbox(settings, parts.broker, metrics, parts.records).run(), name="celery"),
        asyncio.create_task(_run_schedule(settings, parts, metrics), name="schedule"),
        asyncio.create_task(_note_public_url(settings, parts.records), name="public URL"),
    ]
    await wait_first(stop.wait(), worker.stop_requested.wait())
    for task in background:
        task.cancel()
    log.info("worker stops", in_flight=len(worker.attempts))
    await worker.stop(settings.shutdown_grace_seconds)


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The objects that make up a worker."""

    broker: Broker
    supabase: Supabase
    records: TaskRecords
    reconcile_records: ReconcileRecords
    reconciler: Reconciler
    worker: Worker


@contextlib.asynccontextmanager
async def worker_parts(settings: Settings, metrics: Metrics, name: str) -> AsyncIterator[WorkerParts]:
    """Build a worker, which consumes nothing before `worker.start`. Close its resources when the context ends."""
    with tracing.configured("outlast-worker"):
        async with Resources(settings, metrics) as resources:
            broker = await resources.broker(f"worker {name}")
            downloader = await resources.downloader()
            codec = resources.codec()
            supabase = await resources.supabase(
                partial(codec.turns.are_waiting, FILES_AHEAD * settings.codec_processes)
            )
            metrics.watch_codec(codec.stats)
            metrics.watch_waiting(codec.waiting)
            metrics.watch_waiting(downloader.waiting)
            metrics.watch_disk(settings.temp_dir)
            context = _context(settings, metrics, name, broker, supabase, downloader, codec)
            maintenance = _maintenance(settings, metrics, supabase, codec)

            forwarded = MessageKind(FORWARD_PREFIX, ForwardedWebhook.read, (await resources.forward_sender()).send)
            notices = MessageKind(NOTICE_PREFIX, NoticeMessage.read, (await resources.notice_sender()).send)

            def create_handler(delivery: Delivery) -> DeliveryHandler:
                if forwarded.takes(delivery):
                    return SendJob(delivery, forwarded, context.policy, metrics)
                if notices.takes(delivery):
                    return SendJob(delivery, notices, context.policy, metrics)
                if is_maintenance(delivery):
                    return MaintenanceJob(delivery, maintenance)
                return Attempt(delivery, context)

            consumers = [
                Consumer(broker, context, concurrency, queue, create_handler)
                for queue, concurrency in settings.queue_concurrency.items()
            ]
            reconciler = Reconciler(settings, context.reconcile_records, broker, metrics)
            worker = Worker(broker, context, consumers)
            yield WorkerParts(broker, supabase, context.records, context.reconcile_records, reconciler, worker)


def _context(  # noqa: PLR0913, PLR0917 - called once, with the objects that all attempts share
    settings: Settings,
    metrics: Metrics,
    name: str,
    broker: Broker,
    supabase: Supabase,
    downloader: Downloader,
    codec: Codec,
) -> WorkerContext:
    immutable = ImmutableSources(settings)
    records, tasks = TaskRecords(supabase, immutable), TaskQueries(supabase)
    return WorkerContext(
        records=records,
        reconcile_records=ReconcileRecords(supabase),
        deps=PipelineDeps(
            settings,
            downloader,
            codec,
            supabase,
            metrics,
            records.find_stored,
            records.read_data_uri,
            records.claim_object,
            records.claim_objects,
        ),
        policy=RetryPolicy(settings.retry_delays, settings.max_attempts),
        metrics=metrics,
        circuit=Circuit(_dependencies(settings, records, supabase, name), metrics),
        immutable=immutable,
        worker=name,
        progress_writer=ProgressWriter(tasks),
        send_result=partial(send_result, broker, tasks),
        request_result=SourceRefresher(settings, downloader, supabase).request_result,
        max_concurrent=settings.max_concurrent,
        time_limit=settings.attempt_seconds,
        soft_limit=settings.soft_seconds,
    )


def _maintenance(settings: Settings, metrics: Metrics, supabase: Supabase, codec: Codec) -> MaintenanceRunner:
    objects = ObjectRecords(supabase)
    orphans = OrphanRemover(objects, supabase, settings.orphan_grace_seconds)
    optimizer = Optimizer(settings, supabase, objects, codec, settings.profile)
    return MaintenanceRunner(settings, orphans, optimizer, TaskQueries(supabase), metrics)


def _dependencies(settings: Settings, records: TaskRecords, supabase: Supabase, name: str) -> list[Dependency]:
    """Return what every job needs, each with its probe."""
    return [
        Dependency("database", "database_unavailable", lambda: records.heartbeat(name, [], None)),
        Dependency("storage", "storage_unavailable", supabase.check_reachable),
        Dependency("disk", "disk_full", lambda: asyncio.to_thread(check_free_space, settings.temp_dir)),
    ]


async def _run_schedule(settings: Settings, parts: WorkerParts, metrics: Metrics) -> None:
    reaper = KilledTaskReaper(settings, parts.reconcile_records, parts.broker, metrics)
    sweep_job = SweepJob(parts.reconciler, reaper, parts.reconcile_records, settings)
    schedule = build_schedule(settings, sweep_job, parts.broker)
    if settings.notify_addresses:
        schedule += notice_slots(Notices(settings, NoticeRecords(parts.supabase), parts.broker))
    await run_schedule(schedule, parts.reconcile_records, parts.worker.name)


async def _note_public_url(settings: Settings, records: TaskRecords) -> None:
    """Record the project's public URL in the database; repeat until the database answers."""
    async for trial in stamina.retry_context(on=FileProcessingError, attempts=None, timeout=None, wait_max=60.0):
        with trial:
            await records.note_public_url(settings.supabase_public_url or settings.supabase_url or "")


async def _topology_error(broker: Broker) -> None:
    """Raise TopologyError if a queue on the broker exists with other arguments; otherwise wait until cancelled."""
    await broker.wait_ready()
    await asyncio.Event().wait()


def readiness_checks(parts: WorkerParts) -> dict[str, Check]:
    """Return a worker's checks for `/readyz`, by name."""

    async def database() -> str | None:
        try:
            await parts.records.heartbeat(parts.worker.name, [], parts.worker.stats())
        except FileProcessingError as error:
            return str(error)
        return parts.worker.outage("database")

    async def storage() -> str | None:
        return parts.worker.outage("storage")

    async def disk() -> str | None:
        return parts.worker.outage("disk")

    return {"broker": parts.broker.problem, "database": database, "storage": storage, "disk": disk}
