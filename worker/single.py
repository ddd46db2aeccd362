"""Receiver and worker in one process with one port, for one small machine: `outlast serve`."""

import asyncio

import structlog

from handlers.sources import SOURCES
from worker.app import consume, prepare_worker, readiness_checks, worker_parts
from worker.observability.metrics import Metrics
from worker.resources import VERSION, Resources
from worker.runtime import return_freed_memory, serve
from worker.settings import Settings
from worker.web.receiver import Receiver

log = structlog.stdlib.get_logger(__name__)


async def run_serve(settings: Settings, stop: asyncio.Event) -> None:
    """Accept webhooks and consume jobs until `stop` is set.

    Webhooks are accepted until the running jobs have ended. The receiver has a connection of its own to the broker, so
    that it can publish while the worker's connection is blocked or closed.
    """
    return_freed_memory()
    settings = settings.for_serve()
    metrics = Metrics(VERSION)
    sources = [source.from_settings(settings) for source in SOURCES]
    name = await prepare_worker(settings)
    async with worker_parts(settings, metrics, name) as parts, Resources(settings, metrics) as resources:
        broker = await resources.broker("receiver")
        receiver = Receiver(settings, sources, broker, metrics, parts.supabase)
        checks = readiness_checks(parts) | {"receiver": broker.problem}
        async with serve(receiver.app(checks), settings.receiver_host, settings.receiver_port):
            await consume(settings, metrics, parts, stop)
    log.info("stopped")
