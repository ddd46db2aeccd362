"""The routes that receivers and workers both serve: `/healthz`, `/readyz`, `/metrics`."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from worker.observability.metrics import Metrics
from worker.web.bearer_auth import has_token
from worker.web.problem_details import problem

METRICS_SECONDS: Final = 0.1
Check = Callable[[], Awaitable[str | None]]
"""Returns the problem, or None."""


class MetricsRendering:
    """Renders metrics at most every METRICS_SECONDS, because it takes milliseconds and anybody may ask.

    Requests that arrive meanwhile share the next rendering, so what they get is never older than the request.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._next: asyncio.Task[bytes] | None = None
        self._rendered_at = -METRICS_SECONDS

    async def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        if self._next is None:
            self._next = asyncio.create_task(self._render_later(), name="metrics")
        return await asyncio.shield(self._next)

    async def _render_later(self) -> bytes:
        await asyncio.sleep(self._rendered_at + METRICS_SECONDS - time.monotonic())
        self._next, self._rendered_at = None, time.monotonic()
        return self._metrics.render()


def add_health(
    app: web.Application, metrics: Metrics, checks: dict[str, Check], token: SecretStr | None = None
) -> None:
    """Serve `/healthz`, `/readyz` and `/metrics`. The process is ready if every check returns None.

    `token` is METRICS_TOKEN: without it, everybody may read the metrics.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_request: web.Request) -> web.Response:
        problems = {name: found for name, check in checks.items() if (found := await check()) is not None}
        if not problems:
            return web.json_response({"status": "ready"})
        detail = "; ".join(f"{name}: {found}" for name, found in problems.items())
        hint = "the process is ready again when the services named in the detail are back"
        return problem(503, "not_ready", detail, hint, {"Retry-After": "5"})

    rendering = MetricsRendering(metrics)

    async def show_metrics(request: web.Request) -> web.Response:
        if token is not None and not has_token(request, token.get_secret_value().encode()):
            hint = "send Authorization: Bearer <METRICS_TOKEN>"
            headers = {"WWW-Authenticate": "Bearer"}
            return problem(401, "not_authenticated", "the metrics require a token", hint, headers)
        return web.Response(body=await rendering.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
