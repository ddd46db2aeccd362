"""The local stack with a real Prometheus that scrapes it, and RabbitMQ's plugin, once a second."""

import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import aiohttp

from deploy.local.processes import Child, StackError, free_port
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.stack import Stack

PLUGINS = ("rabbitmq_management_agent", "rabbitmq_management", "rabbitmq_prometheus")
SETTINGS = {"RETRY_DELAYS": "2,5", "MAX_ATTEMPTS": "3", "CODEC_PROCESSES": "2", "RECONCILE_EVERY_SECONDS": "5"}


class Prometheus:
    """Asks the server's HTTP API."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def course(self, expr: str, start: float, end: float, step: float) -> list[dict]:
        """Return the series of a query over time, as `query_range` answers them."""
        wanted = {"query": expr, "start": start, "end": end, "step": step}
        async with self._session.post(f"{self._url}/api/v1/query_range", data=wanted) as response:
            told = await response.json()
        if told["status"] != "success":
            raise ValueError(f"{expr}: {told['error']}")
        return told["data"]["result"]


@contextlib.asynccontextmanager
async def watched(data_dir: Path) -> AsyncIterator[tuple[Stack, Prometheus]]:
    """Run all of it; on leaving, all of it has ended."""
    async with contextlib.AsyncExitStack() as ends:
        broker, port = RabbitMQ(data_dir / "broker", PLUGINS), free_port()
        home = data_dir / "broker" / "rabbitmq"
        home.mkdir(parents=True)
        tcp = f'[{{port, {port}}}, {{ip, "127.0.0.1"}}]'
        (home / "advanced.config").write_text(f"[{{rabbitmq_prometheus, [{{tcp_config, {tcp}}}]}}].\n")
        ends.push_async_callback(broker.stop)
        await broker.start()
        ends.enter_context(patch.dict(os.environ, {**SETTINGS, "RABBITMQ_URL": broker.url}))
        stack = await ends.enter_async_context(Stack(data_dir / "stack", workers=2, port=free_port()))
        server = free_port()
        child = await _start(data_dir, server, _config(stack, port))
        ends.push_async_callback(child.stop)
        await child.answers(f"http://127.0.0.1:{server}/-/ready", 30)
        session = await ends.enter_async_context(aiohttp.ClientSession())
        yield stack, Prometheus(f"http://127.0.0.1:{server}", session)


def _config(stack: Stack, rabbitmq_port: int) -> dict:
    ours = [url.split("/")[2] for url in (stack.receiver_url + "/", *stack.endpoints.worker_metrics_urls)]
    names = ["receiver", *(f"worker-{number}" for number in range(1, len(ours)))]
    jobs = [{"targets": [at], "labels": {"instance": name}} for at, name in zip(ours, names, strict=True)]
    broker = {"targets": [f"127.0.0.1:{rabbitmq_port}"]}
    return {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": "outlast", "static_configs": jobs},
            {"job_name": "rabbitmq", "metrics_path": "/metrics/per-object", "static_configs": [broker]},
        ],
    }


async def _start(data_dir: Path, port: int, config: dict) -> Child:
    program = shutil.which("prometheus")
    if program is None:
        raise StackError("Prometheus is missing: apt-get install prometheus")
    file = data_dir / "prometheus.json"  # which is YAML as well
    file.write_text(json.dumps(config))
    argv = [
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={data_dir / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    return await Child.spawn("prometheus", argv, data_dir=data_dir)
