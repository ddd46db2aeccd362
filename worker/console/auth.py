"""Access to the console: security headers, sign-in, protection against forged forms, and errors as pages."""

import hmac
import math
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp_jinja2
import structlog
from aiohttp import web
from multidict import MultiDict

from handlers.errors import DatabaseUnavailableError, RowRejectedError
from schemas.dead_letters import InvalidFilterError
from worker.broker.errors import BrokerUnavailableError
from worker.console.session import Session, Sessions, SignInThrottle
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.service import NoArchiveError
from worker.web.client_address import client_address
from worker.web.request_body import BodyError, read_form

log = structlog.stdlib.get_logger(__name__)
ROOT: Final = "/console"
STATIC_FILES: Final = frozenset(path.name for path in Path(__file__).with_name("static").iterdir())
COOKIE: Final = "outlast_console"
COOKIE_VALUE: Final = re.compile(rf'(?:^|; *){COOKIE}="?([^;"]*)')
SESSION: Final = web.RequestKey("session", Session)
SESSIONS: Final = web.AppKey("sessions", Sessions)
FORM: Final = web.RequestKey("form", MultiDict[str])
"""The fields of a POST request that has a session."""
MAX_SIGN_IN_BYTES: Final = 8 * 1024
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' {image_origin}; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would send our own forms with `Origin: null`
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
DISABLED: Final = "The console is disabled. Set CONSOLE_TOKEN of the receiver to a long random text, and restart it."
ERRORS: Final[dict[type[Exception], tuple[int, str]]] = {
    InvalidFilterError: (422, "The filter is not valid. Nothing was changed."),
    BusyError: (409, "Another operator is using the dead letters. Nothing was changed. Try again in a few seconds."),
    BrokerUnavailableError: (503, "RabbitMQ is not available. No dead letter is lost. Try again later."),
    NoArchiveError: (503, "There is no archive for discarded dead letters. Nothing was removed from the queue."),
    DatabaseUnavailableError: (503, "The database does not answer. Try again later."),
    RowRejectedError: (422, "The database refuses these values."),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def session_cookie(request: web.Request) -> str:
    """Return the value of the session's cookie, or "". aiohttp parses all cookies, which takes long for many."""
    found = COOKIE_VALUE.search(request.headers.get("Cookie", ""))
    return "" if found is None else found[1]


class ConsoleAuth:
    """Signs operators in and out, and protects all other pages. Images may be loaded from `image_origin`.

    `by_link`: a link with the token signs in, for the local stack. Elsewhere links end up in logs and histories.
    """

    def __init__(self, sessions: Sessions, image_origin: str, trusted_proxies: int, *, by_link: bool = False) -> None:
        self._sessions = sessions
        self._by_link = by_link
        self._trusted_proxies = trusted_proxies
        self._throttle = SignInThrottle()
        policy = POLICY.format(image_origin=image_origin).replace(" ;", ";")
        self._headers = HEADERS | {"Content-Security-Policy": policy}

    def add_to(self, app: web.Application) -> None:
        """Add the middleware and the routes for signing in and out."""
        app[SESSIONS] = self._sessions

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await self._respond(request, handler)
            if not response.prepared:
                for name, value in self._headers.items():
                    response.headers.setdefault(name, value)
            return response

        app.middlewares.append(guard)
        app.router.add_post("/sign-in", self._sign_in)
        if self._by_link:
            app.router.add_get("/sign-in", self._sign_in_by_link)
        app.router.add_post("/sign-out", self._sign_out)

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return self._refuse(request) or await self._handle(request, handler)
        except BodyError as error:
            return error_page(request, error.status, f"{str(error).capitalize()}. Nothing was changed.")
        except web.HTTPException as error:
            return error_page(request, error.status, error.text or error.reason)
        except tuple(ERRORS) as error:
            status, message = next(value for kind, value in ERRORS.items() if isinstance(error, kind))
            return error_page(request, status, message, str(error))
        except Exception:
            log.exception("console page failed", path=request.path)
            return error_page(request, 500, "This page failed with an unexpected error. See the log of the receiver.")

    def _refuse(self, request: web.Request) -> web.StreamResponse | None:
        """Return the response for a request without a session or from another site; None if it may continue."""
        if request.path.startswith(f"{ROOT}/static/"):
            if request.path.removeprefix(f"{ROOT}/static/") not in STATIC_FILES:  # perhaps not even a valid file name
                raise web.HTTPNotFound
            return None
        if not self._sessions.enabled:
            return error_page(request, 403, DISABLED)
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin is not None and origin.partition("://")[2] != request.host:
            return error_page(request, 403, "The form was sent from another site. Nothing was changed.")
        if request.path == f"{ROOT}/sign-in":
            return None
        session = self._sessions.read(session_cookie(request))
        if session is None:
            return _reload_page(request) or _sign_in_page(request, 401)
        request[SESSION] = session
        return None

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the form token and the role of a POST request, then call the handler."""
        if request.method == "POST" and SESSION in request:
            session, fields = request[SESSION], await read_form(request)
            request[FORM] = fields
            given = fields.get("form_token", "").encode(errors="replace")
            if not hmac.compare_digest(given, self._sessions.form_token(session).encode()):
                return error_page(request, 403, "The form does not belong to this session. Reload the page.")
            if not session.may_act and request.path != f"{ROOT}/sign-out":
                return error_page(request, 403, "Your session is read-only. Nothing was changed.")
        return await handler(request)

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        address = client_address(request, self._trusted_proxies)
        fields = await read_form(request, MAX_SIGN_IN_BYTES, proven=False)
        token = fields.get("token", "")
        session = self._sessions.create(token, fields.get("who", ""))
        if session is None:  # the right token is never delayed, so that nobody can lock operators out
            return self._wrong_token(request, token, address)
        return self._signed_in(request, session, fields.get("next", ""))

    async def _sign_in_by_link(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("token", "")
        session = self._sessions.create(token, "local")
        if session is None:
            return self._wrong_token(request, token, client_address(request, self._trusted_proxies))
        return self._signed_in(request, session, "")

    def _signed_in(self, request: web.Request, session: Session, path: str) -> web.StreamResponse:
        """Return the response that begins a session and leads to a page of the console."""
        log.info("signed in", who=session.name, role=session.role)
        response = redirect(_console_path(path))
        response.set_cookie(
            COOKIE,
            self._sessions.cookie(session),
            max_age=int(self._sessions.seconds),
            path="/console",
            httponly=True,
            samesite="Strict",
            secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
        )
        return response

    def _wrong_token(self, request: web.Request, token: str, address: str) -> web.StreamResponse:
        log.warning("wrong console token", address=address)
        if seconds := math.ceil(self._throttle.record_failure(token, address)):
            message = f"Too many wrong attempts. Wait {seconds} s, then try again."
            return _sign_in_page(request, 429, message, {"Retry-After": str(seconds)})
        return _sign_in_page(request, 401, "The token is wrong.")

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        self._sessions.end(request[SESSION])
        response = redirect("/console/")
        response.del_cookie(COOKIE, path="/console")
        return response


def base_context(request: web.Request) -> dict[str, Any]:
    """Return the template variables of every page: the session, its form token and role, and the path."""
    session = request.get(SESSION)
    token = "" if session is None else request.config_dict[SESSIONS].form_token(session)
    return {"session": session, "form_token": token, "path": request.path, "may_act": bool(session and session.may_act)}


def redirect(path: str) -> web.Response:
    """Return a 303 response: the browser loads `path` with GET."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path})


def error_page(request: web.Request, status: int, message: str, detail: str = "") -> web.Response:
    """Return a page with an error message, and this HTTP status."""
    context = {
        **base_context(request),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "message": message,
        "detail": detail,
    }
    return aiohttp_jinja2.render_template("error.html", request, context, status=status)


def _reload_page(request: web.Request) -> web.StreamResponse | None:
    """Return a page that loads itself again, for a link on another site: SameSite=Strict held the cookie back."""
    if request.method != "GET" or request.headers.get("Sec-Fetch-Site") != "cross-site":
        return None
    context = {**base_context(request), "title": "One moment", "to": request.path_qs}
    return aiohttp_jinja2.render_template("reload.html", request, context)


def _sign_in_page(
    request: web.Request, status: int, message: str = "", headers: dict[str, str] | None = None
) -> web.StreamResponse:
    """Return the sign-in form. After signing in, the browser returns to the page that was requested."""
    next_path = request.path_qs if request.method == "GET" else "/console/"
    context = {**base_context(request), "title": "Sign in", "message": message, "next": next_path}
    response = aiohttp_jinja2.render_template("sign_in.html", request, context, status=status)
    response.headers.update(headers or {})
    return response


def _console_path(path: str) -> str:
    """Return `path` if it is a path of the console, otherwise its first page."""
    return path if path.startswith("/console/") and "\\" not in path and path.isprintable() else "/console/"
