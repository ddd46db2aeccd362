"""A receiver's requests as spans: where a trace begins, or goes on from whoever sent the webhook."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus

import structlog
from aiohttp import web

from worker.observability import tracing
from worker.observability.span_types import Attribute


@web.middleware
async def tracing_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Trace what is sent to us; questions (GET) begin no work, and would be many."""
    sent = request.headers.get("traceparent")
    if request.method != "POST" or not tracing.is_active(sent):
        return await handler(request)
    route = request.match_info.route.resource
    path = "unknown" if route is None else route.canonical
    attributes: dict[str, Attribute] = {"http.request.method": "POST", "http.route": path}
    with (
        tracing.span(f"POST {path}", "server", sent, attributes=attributes),
        _bound(tracing.log_context()),
    ):
        response = await handler(request)
        tracing.set_attributes({"http.response.status_code": response.status})
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            tracing.set_attributes({"error": str(response.status)})
        return response


def _bound(context: dict[str, str]) -> AbstractContextManager[object]:
    """Bind log lines to the trace, where there is one."""
    return structlog.contextvars.bound_contextvars(**context) if context else nullcontext()
