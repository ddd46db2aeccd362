"""Errors as RFC 9457 says (`application/problem+json`), each with a stable `code` and a `hint` that says what to do."""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web

log = structlog.stdlib.get_logger(__name__)


def problem(status: int, code: str, detail: str, hint: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return a problem document. `detail` tells this case, `hint` the remedy."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "hint": hint,
    }
    return web.Response(text=json.dumps(body), status=status, content_type="application/problem+json", headers=headers)


ROUTING: dict[int, tuple[str, str]] = {
    404: (
        "not_found",
        "GET /openapi.json describes every route of a receiver; a worker has /healthz, /readyz and /metrics",
    ),
    405: ("method_not_allowed", "the Allow header names the methods this route takes"),
    413: ("body_too_large", "send less, or raise WEBHOOK_MAX_BODY_MB"),
}


@web.middleware
async def problem_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]
) -> web.StreamResponse:
    """Turn what aiohttp raises, and what nobody foresaw, into problem documents."""
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        code, hint = ROUTING.get(error.status, ("http_error", "see the detail"))
        kept = {name: value for name, value in error.headers.items() if name == "Allow"}
        return problem(error.status, code, error.text or error.reason, hint, kept)
    except Exception:
        log.exception("request failed", path=request.path)
        return problem(500, "internal_error", "the request met an error we did not foresee", "look at the log")
    return response
