"""The local stack behind a Supabase proxy that can fail, with a separate broker, monitored by a real Prometheus."""

import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import aiohttp

from deploy.local.processes import free_port
from deploy.local.project import Project
from deploy.local.prometheus import Prometheus
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.stack import Stack
from tests.chaos.fault_proxy import FaultProxy

CONCURRENCY = 2
SWEEP_SECONDS = 3
SETTINGS = {
    "RETRY_DELAYS": "2,4",
    "MAX_ATTEMPTS": "3",
    "WORKER_CONCURRENCY": str(CONCURRENCY),
    "CODEC_PROCESSES": "2",
    "RECONCILE_EVERY_SECONDS": str(SWEEP_SECONDS),
}
HOLD_SECONDS = 10
"""How long an alert's condition must hold here, instead of the minutes in the rules."""
RABBITMQ_CONFIG = "[{rabbit, [{quorum_tick_interval, 500}, {collect_statistics_interval, 500}]}].\n"
"""RabbitMQ updates its queue counts every 5 s by default, which is too slow for alerts that must stay silent."""


class ProxiedStack(Stack):
    """The stack with `fault_proxy` in front of the gateway."""

    fault_proxy: FaultProxy

    async def _start_supabase(self):
        await super()._start_supabase()
        self.fault_proxy = FaultProxy(self._supabase.url, 1, uploads=0, calls=0)
        self._exit_stack.push_async_callback(self.fault_proxy.stop)
        await self.fault_proxy.start()
        self._supabase = replace(self._supabase, url=f"http://127.0.0.1:{self.fault_proxy.port}")


@dataclass
class MonitoredStack:
    """All running parts, when they started, and the alerts that were seen firing."""

    stack: ProxiedStack
    broker: RabbitMQ
    prometheus: Prometheus
    project: Project
    session: aiohttp.ClientSession
    start: float = field(default_factory=time.time)
    seen: set[str] = field(default_factory=set)

    async def scrape_current_workers(self) -> None:
        """Scrape the workers that run now."""
        await self.prometheus.scrape(targets(self.stack, self.broker))

    async def fired(self) -> set[str]:
        """Return the names of the alerts that have fired so far.

        A range query can miss one that fired for a moment between two of its steps.
        """
        found = await self.prometheus.query_range('ALERTS{alertstate="firing"}', self.start, time.time(), 0.5)
        return {one["metric"]["alertname"] for one in found} | self.seen


def targets(stack: Stack, broker: RabbitMQ) -> dict[str, list[str]]:
    return {
        "outlast-receiver": [f"{stack.receiver_url}/metrics"],
        "outlast-worker": stack.endpoints.worker_metrics_urls,
        "rabbitmq": [broker.metrics_url],
    }


@contextlib.asynccontextmanager
async def monitored_stack(folder: Path) -> AsyncIterator[MonitoredStack]:
    """Run all parts; stop them on exit."""
    async with contextlib.AsyncExitStack() as stack_exit:
        broker = RabbitMQ(folder / "broker")
        home = folder / "broker" / "rabbitmq"
        home.mkdir(parents=True)
        (home / "advanced.config").write_text(RABBITMQ_CONFIG)
        stack_exit.push_async_callback(broker.stop)
        await broker.start()
        stack_exit.enter_context(patch.dict(os.environ, {**SETTINGS, "RABBITMQ_URL": broker.url}))
        stack = await stack_exit.enter_async_context(ProxiedStack(folder / "stack", workers=2, port=free_port()))
        prometheus = Prometheus(folder, targets(stack, broker), interval=1, hold=HOLD_SECONDS)
        await stack_exit.enter_async_context(prometheus)
        await prometheus.wait_for("count(up == 1) == 4")
        project = await stack_exit.enter_async_context(Project(stack.endpoints))
        session = await stack_exit.enter_async_context(aiohttp.ClientSession())
        yield MonitoredStack(stack, broker, prometheus, project, session)
