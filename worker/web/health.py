"""The routes every process has: alive, ready, metrics."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from worker.observability.metrics import Metrics
from worker.web.problem_details import problem

Check = Callable[[], Awaitable[str | None]]
"""Returns what is wrong, or None."""


def add_health(app: web.Application, metrics: Metrics, checks: dict[str, Check]) -> None:
    """Serve `/healthz`, `/readyz` and `/metrics`; ready means that every check says None."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_request: web.Request) -> web.Response:
        wrong = {name: said for name, check in checks.items() if (said := await check()) is not None}
        if not wrong:
            return web.json_response({"status": "ready"})
        detail = "; ".join(f"{name}: {said}" for name, said in wrong.items())
        return problem(503, "not_ready", detail, "it recovers by itself when they do", {"Retry-After": "5"})

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
