"""The routes that receivers and workers both serve: `/healthz`, `/readyz`, `/metrics`."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from worker.observability.metrics import Metrics
from worker.web.problem_details import problem

Check = Callable[[], Awaitable[str | None]]
"""Returns the problem, or None."""


def add_health(app: web.Application, metrics: Metrics, checks: dict[str, Check]) -> None:
    """Serve `/healthz`, `/readyz` and `/metrics`. The process is ready if every check returns None."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_request: web.Request) -> web.Response:
        problems = {name: found for name, check in checks.items() if (found := await check()) is not None}
        if not problems:
            return web.json_response({"status": "ready"})
        detail = "; ".join(f"{name}: {found}" for name, found in problems.items())
        hint = "the process is ready again when the services named in the detail are back"
        return problem(503, "not_ready", detail, hint, {"Retry-After": "5"})

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
