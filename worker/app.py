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

from handlers.codec import Codec
from handlers.download import Downloader
from handlers.errors import FileProcessingError
from handlers.ledger import Ledger
from handlers.objects import Objects
from handlers.orphans import Orphans
from handlers.record import Records
from handlers.scratch import check_room, sweep
from handlers.sources import Source
from handlers.sources.fal import FalSource
from handlers.sources.supabase import SupabaseSource
from handlers.steps import Tools
from handlers.supabase import Supabase
from handlers.tasks import TaskRecords
from worker import tracing
from worker.attempt import Attempt
from worker.broker import Broker
from worker.celery_inbox import CeleryInbox
from worker.celery_reply import answer
from worker.circuit import Circuit, Dependency
from worker.consumer import Consumer, Handling
from worker.crew import Crew
from worker.decide import Policy
from worker.delivery import Delivery
from worker.health import Check, add_health
from worker.maintenance import Chore, Upkeep, is_chore
from worker.metrics import Metrics
from worker.optimize import Optimizer
from worker.problems import as_problems
from worker.process import first, serve
from worker.progress import Board
from worker.reconcile import Reconciler
from worker.rounds import Mourner, Rounds
from worker.schedule import keep, slots
from worker.settings import Settings
from worker.settlement import Surroundings

log = structlog.stdlib.get_logger(__name__)
VERSION = version("outlast")


async def receive(settings: Settings, stop: asyncio.Event) -> None:
    """Serve webhooks until `stop`."""
    from handlers.sources.fal_keys import Jwks  # noqa: PLC0415 - with the next, 12 MB that a worker never needs
    from worker.receiver import Receiver  # noqa: PLC0415 - the same

    settings.for_receiver()
    log.info("receiver starts", version=VERSION, settings=settings.shown())
    metrics = Metrics(VERSION)
    sources: list[Source] = [
        SupabaseSource(settings, settings.supabase_webhook_secrets),
        FalSource(Jwks(settings.fal_jwks_url), settings.fal_user_ids),
    ]
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(tracing.running("outlast-receiver"))
        broker = await stack.enter_async_context(Broker(settings, metrics, "outlast receiver"))
        has_tasks = settings.supabase_url is not None
        supabase = await stack.enter_async_context(Supabase(settings, metrics)) if has_tasks else None
        app = Receiver(settings, sources, broker, metrics, supabase).app()
        async with serve(app, settings.receiver_host, settings.receiver_port):
            await first(stop.wait(), _failure(broker))
    log.info("receiver stopped")


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Consume jobs until `stop`, then finish or hand back what runs."""
    settings.for_worker()
    name = f"{socket.gethostname()}-{os.getpid()}"
    log.info("worker starts", version=VERSION, worker=name, settings=settings.shown())
    swept = await asyncio.to_thread(sweep, settings.temp_dir)
    log.info("temporary folder swept", folder=str(settings.temp_dir), removed=swept)
    metrics = Metrics(VERSION)
    async with workshop(settings, metrics, name) as shop:
        crew, mourner = shop.crew, Mourner(settings, shop.ledger, shop.broker, metrics)
        schedule = slots(settings, Rounds(shop.reconciler, mourner, shop.ledger, settings), shop.broker)
        app = web.Application(middlewares=[as_problems])
        add_health(app, metrics, _checks(shop))
        async with serve(app, settings.metrics_host, settings.metrics_port):
            await first(stop.wait(), crew.start())
            inbox = asyncio.create_task(CeleryInbox(settings, shop.broker, metrics).run(), name="celery")
            rounds = asyncio.create_task(keep(schedule, shop.ledger, name), name="schedule")
            await first(stop.wait(), crew.told_to_stop.wait())
            rounds.cancel()
            inbox.cancel()
            log.info("worker stops", in_flight=len(crew.attempts))
            await crew.stop(settings.shutdown_grace_seconds)
    log.info("worker stopped")


@dataclass(frozen=True, slots=True)
class Workshop:
    """All that a worker consists of."""

    broker: Broker
    supabase: Supabase
    records: Records
    ledger: Ledger
    reconciler: Reconciler
    crew: Crew


@contextlib.asynccontextmanager
async def workshop(settings: Settings, metrics: Metrics, name: str) -> AsyncIterator[Workshop]:
    """Build a worker, which `crew.start` sets going; close what it opened."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(tracing.running("outlast-worker"))
        broker = await stack.enter_async_context(Broker(settings, metrics, f"outlast worker {name}"))
        supabase = await stack.enter_async_context(Supabase(settings, metrics))
        downloader = await stack.enter_async_context(Downloader(settings, metrics))
        codec = Codec(settings, metrics)
        metrics.watch_codec(codec.stats)
        metrics.watch_disk(settings.temp_dir)
        stack.push_async_callback(codec.aclose)
        records, ledger, tasks = Records(settings, supabase), Ledger(supabase), TaskRecords(supabase)
        around = Surroundings(
            records=records,
            ledger=ledger,
            tools=Tools(settings, downloader, codec, supabase, metrics, records.known, records.inline, records.claim),
            policy=Policy(settings.retry_delays, settings.max_attempts),
            metrics=metrics,
            circuit=Circuit(_dependencies(settings, records, supabase, name), metrics),
            worker=name,
            board=Board(tasks),
            answer=partial(answer, broker, tasks),
            max_concurrent=settings.max_concurrent,
            time_limit=settings.attempt_seconds,
            soft_limit=settings.soft_seconds,
        )
        objects = Objects(supabase)
        orphans = Orphans(objects, supabase, settings.orphan_grace_seconds)
        optimizer = Optimizer(settings, supabase, objects, codec, settings.profile)
        upkeep = Upkeep(settings, orphans, optimizer, tasks, metrics)

        def handle(delivery: Delivery) -> Handling:
            return Chore(delivery, upkeep) if is_chore(delivery) else Attempt(delivery, around)

        crew = Crew(
            broker, around, [Consumer(broker, around, number, key, handle) for key, number in settings.places.items()]
        )
        reconciler = Reconciler(settings, ledger, broker, metrics)
        yield Workshop(broker, supabase, records, ledger, reconciler, crew)


def _dependencies(settings: Settings, records: Records, supabase: Supabase, name: str) -> list[Dependency]:
    """Return what every job needs, and how to ask for it."""
    return [
        Dependency("database", "database_unavailable", lambda: records.heartbeat(name, [], None)),
        Dependency("storage", "storage_unavailable", supabase.reachable),
        Dependency("disk", "disk_full", lambda: asyncio.to_thread(check_room, settings.temp_dir)),
    ]


async def _failure(broker: Broker) -> None:
    """Return never, but raise what the broker refuses for good."""
    await broker.opened()
    await asyncio.Event().wait()


def _checks(shop: Workshop) -> dict[str, Check]:
    """Return what a worker must have to be ready."""

    async def database() -> str | None:
        try:
            await shop.records.heartbeat(shop.crew.worker, [], shop.crew.stats())
        except FileProcessingError as error:
            return str(error)
        return shop.crew.away("database")

    async def storage() -> str | None:
        return shop.crew.away("storage")

    async def disk() -> str | None:
        return shop.crew.away("disk")

    return {"broker": shop.broker.problem, "database": database, "storage": storage, "disk": disk}
