"""Error responses as RFC 9457 problem details, each with a stable `code` and a `hint` that names the remedy."""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web

from worker.web.request_body import BodyError

log = structlog.stdlib.get_logger(__name__)


def problem(status: int, code: str, detail: str, hint: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return a problem document. `detail` describes this occurrence, `hint` the remedy."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "hint": hint,
    }
    return web.Response(text=json.dumps(body), status=status, content_type="application/problem+json", headers=headers)


HTTP_ERRORS: Final = {
    404: (
        "not_found",
        "GET /openapi.json describes every route of a receiver; a worker has /healthz, /readyz and /metrics",
    ),
    405: ("method_not_allowed", "the Allow header names the methods of this route"),
    413: ("body_too_large", "send a smaller body, or raise WEBHOOK_MAX_BODY_MB"),
}
"""Code and hint of the errors that aiohttp raises, by HTTP status."""


@web.middleware
async def problem_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]
) -> web.StreamResponse:
    """Answer the errors that aiohttp raises, and unexpected exceptions, with problem documents."""
    try:
        response: web.StreamResponse = await handler(request)
    except BodyError as error:
        return problem(error.status, error.code, str(error), error.hint, error.headers)
    except web.HTTPException as error:
        code, hint = HTTP_ERRORS.get(error.status, ("http_error", "see the detail"))
        headers = {name: value for name, value in error.headers.items() if name == "Allow"}
        return problem(error.status, code, error.text or error.reason, hint, headers)
    except Exception:
        log.exception("request failed", path=request.path)
        return problem(500, "internal_error", "the request failed with an unexpected error", "see the receiver's log")
    return response
