"""Spans of the receiver's requests. A request starts a trace, or continues the one in its `traceparent` header."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus

import structlog
from aiohttp import web

from worker.observability import tracing


@web.middleware
async def tracing_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Trace POST requests. GET requests are not traced: they start no work, and there are many of them."""
    parent = request.headers.get("traceparent")
    if request.method != "POST" or not tracing.is_active(parent):
        return await handler(request)
    route = request.match_info.route.resource
    path = "unknown" if route is None else route.canonical
    attributes = {"http.request.method": "POST", "http.route": path}
    with (
        tracing.span(f"POST {path}", "server", parent, attributes=attributes),
        _bind_log_context(tracing.log_context()),
    ):
        response = await handler(request)
        tracing.set_attributes({"http.response.status_code": response.status})
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            tracing.set_attributes({"error": str(response.status)})
        return response


def _bind_log_context(context: dict[str, str]) -> AbstractContextManager[object]:
    """Add the trace's id to log lines, if there is a trace."""
    return structlog.contextvars.bound_contextvars(**context) if context else nullcontext()
