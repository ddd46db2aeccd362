"""The only place that builds objects: a receiver and a worker, each running until it is told to stop."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import structlog
from aiohttp import web

from handlers.codec.codec import Codec
from handlers.database.client import Supabase
from handlers.database.object_records import ObjectRecords
from handlers.database.reconcile_records import ReconcileRecords
from handlers.database.task_queries import TaskQueries
from handlers.database.task_records import TaskRecords
from handlers.download import Downloader
from handlers.errors import FileProcessingError
from handlers.pipeline.steps import PipelineDeps
from handlers.pipeline.tempdirs import check_free_space, remove_abandoned
from handlers.sources import WebhookSource
from handlers.sources.fal import FalSource
from handlers.sources.supabase import SupabaseSource
from handlers.storage.orphans import OrphanRemover
from worker.broker.connection import Broker
from worker.celery_compat.inbox import CeleryInbox
from worker.celery_compat.reply import send_result
from worker.consume.attempt import Attempt
from worker.consume.circuit import Circuit, Dependency
from worker.consume.consumer import Consumer, DeliveryHandler
from worker.consume.delivery import Delivery
from worker.consume.progress import ProgressWriter
from worker.consume.retry_policy import RetryPolicy
from worker.consume.settlement import WorkerContext
from worker.consume.worker import Worker
from worker.observability import tracing
from worker.observability.metrics import Metrics
from worker.periodic.maintenance import MaintenanceJob, MaintenanceRunner, is_maintenance
from worker.periodic.optimize import Optimizer
from worker.periodic.reconcile import Reconciler
from worker.periodic.schedule import build_schedule, run_schedule
from worker.periodic.sweep_job import KilledTaskReaper, SweepJob
from worker.runtime import serve, wait_first
from worker.settings import Settings
from worker.web.health import Check, add_health
from worker.web.problem_details import problem_middleware

log = structlog.stdlib.get_logger(__name__)
VERSION = version("outlast")


async def run_receiver(settings: Settings, stop: asyncio.Event) -> None:
    """Serve webhooks until `stop`."""
    from handlers.sources.fal_keys import Jwks  # noqa: PLC0415 - with the next, 12 MB that a worker never needs
    from worker.web.receiver import Receiver  # noqa: PLC0415 - the same

    settings.for_receiver()
    log.info("receiver starts", version=VERSION, settings=settings.for_log())
    metrics = Metrics(VERSION)
    sources: list[WebhookSource] = [
        SupabaseSource(settings, settings.supabase_webhook_secrets),
        FalSource(Jwks(settings.fal_jwks_url), settings.fal_user_ids),
    ]
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(tracing.configured("outlast-receiver"))
        broker = await stack.enter_async_context(Broker(settings, metrics, "outlast receiver"))
        has_tasks = settings.supabase_url is not None
        supabase = await stack.enter_async_context(Supabase(settings, metrics)) if has_tasks else None
        app = Receiver(settings, sources, broker, metrics, supabase).app()
        async with serve(app, settings.receiver_host, settings.receiver_port):
            await wait_first(stop.wait(), _failure(broker))
    log.info("receiver stopped")


async def run_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Consume jobs until `stop`, then finish or hand back what runs."""
    settings.for_worker()
    name = f"{socket.gethostname()}-{os.getpid()}"
    log.info("worker starts", version=VERSION, worker=name, settings=settings.for_log())
    swept = await asyncio.to_thread(remove_abandoned, settings.temp_dir)
    log.info("temporary folder swept", folder=str(settings.temp_dir), removed=swept)
    metrics = Metrics(VERSION)
    async with worker_parts(settings, metrics, name) as parts:
        worker, reaper = parts.worker, KilledTaskReaper(settings, parts.reconcile_records, parts.broker, metrics)
        schedule = build_schedule(
            settings, SweepJob(parts.reconciler, reaper, parts.reconcile_records, settings), parts.broker
        )
        app = web.Application(middlewares=[problem_middleware])
        add_health(app, metrics, _checks(parts))
        async with serve(app, settings.metrics_host, settings.metrics_port):
            await wait_first(stop.wait(), worker.start())
            inbox = asyncio.create_task(CeleryInbox(settings, parts.broker, metrics).run(), name="celery")
            rounds = asyncio.create_task(run_schedule(schedule, parts.reconcile_records, name), name="schedule")
            await wait_first(stop.wait(), worker.stop_requested.wait())
            rounds.cancel()
            inbox.cancel()
            log.info("worker stops", in_flight=len(worker.attempts))
            await worker.stop(settings.shutdown_grace_seconds)
    log.info("worker stopped")


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """All that a worker consists of."""

    broker: Broker
    supabase: Supabase
    records: TaskRecords
    reconcile_records: ReconcileRecords
    reconciler: Reconciler
    worker: Worker


@contextlib.asynccontextmanager
async def worker_parts(settings: Settings, metrics: Metrics, name: str) -> AsyncIterator[WorkerParts]:
    """Build a worker, which `worker.start` sets going; close what it opened."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(tracing.configured("outlast-worker"))
        broker = await stack.enter_async_context(Broker(settings, metrics, f"outlast worker {name}"))
        supabase = await stack.enter_async_context(Supabase(settings, metrics))
        downloader = await stack.enter_async_context(Downloader(settings, metrics))
        codec = Codec(settings, metrics)
        metrics.watch_codec(codec.stats)
        metrics.watch_disk(settings.temp_dir)
        stack.push_async_callback(codec.aclose)
        records, reconcile_records, tasks = (
            TaskRecords(settings, supabase),
            ReconcileRecords(supabase),
            TaskQueries(supabase),
        )
        context = WorkerContext(
            records=records,
            reconcile_records=reconcile_records,
            deps=PipelineDeps(
                settings,
                downloader,
                codec,
                supabase,
                metrics,
                records.find_stored,
                records.read_inline,
                records.claim_object,
            ),
            policy=RetryPolicy(settings.retry_delays, settings.max_attempts),
            metrics=metrics,
            circuit=Circuit(_dependencies(settings, records, supabase, name), metrics),
            worker=name,
            progress_writer=ProgressWriter(tasks),
            send_result=partial(send_result, broker, tasks),
            max_concurrent=settings.max_concurrent,
            time_limit=settings.attempt_seconds,
            soft_limit=settings.soft_seconds,
        )
        objects = ObjectRecords(supabase)
        orphans = OrphanRemover(objects, supabase, settings.orphan_grace_seconds)
        optimizer = Optimizer(settings, supabase, objects, codec, settings.profile)
        upkeep = MaintenanceRunner(settings, orphans, optimizer, tasks, metrics)

        def handle(delivery: Delivery) -> DeliveryHandler:
            return MaintenanceJob(delivery, upkeep) if is_maintenance(delivery) else Attempt(delivery, context)

        worker = Worker(
            broker,
            context,
            [Consumer(broker, context, number, key, handle) for key, number in settings.queue_concurrency.items()],
        )
        reconciler = Reconciler(settings, reconcile_records, broker, metrics)
        yield WorkerParts(broker, supabase, records, reconcile_records, reconciler, worker)


def _dependencies(settings: Settings, records: TaskRecords, supabase: Supabase, name: str) -> list[Dependency]:
    """Return what every job needs, and how to ask for it."""
    return [
        Dependency("database", "database_unavailable", lambda: records.heartbeat(name, [], None)),
        Dependency("storage", "storage_unavailable", supabase.check_reachable),
        Dependency("disk", "disk_full", lambda: asyncio.to_thread(check_free_space, settings.temp_dir)),
    ]


async def _failure(broker: Broker) -> None:
    """Return never, but raise what the broker refuses for good."""
    await broker.wait_ready()
    await asyncio.Event().wait()


def _checks(parts: WorkerParts) -> dict[str, Check]:
    """Return what a worker must have to be ready."""

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
