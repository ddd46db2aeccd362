"""The door before every page: headers, sign-in, forms of our own only, and errors as pages."""

import hmac
import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp_jinja2
import structlog
from aiohttp import web

from handlers.errors import DatabaseUnavailableError
from schemas.dead_letters import InvalidFilterError
from worker.broker.connection import BrokerUnavailableError
from worker.console.session import Session, Sessions, Slowdown
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.service import NoArchiveError

log = structlog.stdlib.get_logger(__name__)
ROOT: Final = "/console"
COOKIE: Final = "outlast_console"
SESSION: Final = web.RequestKey("session", Session)
SESSIONS: Final = web.AppKey("sessions", Sessions)
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' {pictures}; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # none at all would take the Origin from our own forms
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
CLOSED: Final = "The console is closed: set CONSOLE_TOKEN for the receiver, a long random text, and start it again."
SAID: Final[dict[type[Exception], tuple[int, str]]] = {
    InvalidFilterError: (422, "The filter cannot be read; nothing was touched."),
    BusyError: (409, "Somebody else is at the dead letters. Nothing was touched; try again in a few seconds."),
    BrokerUnavailableError: (503, "RabbitMQ cannot be reached. Nothing is lost; try again when it is back."),
    NoArchiveError: (503, "There is no archive to move letters to. Nothing left the queue."),
    DatabaseUnavailableError: (503, "The database gives no answer. Try again when it is back."),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ConsoleAuth:
    """Signs in and out, and guards the rest. `pictures` is the origin pictures may come from."""

    def __init__(self, sessions: Sessions, pictures: str) -> None:
        self._sessions = sessions
        self._slowdown = Slowdown()
        self._headers = HEADERS | {"Content-Security-Policy": POLICY.format(pictures=pictures).replace(" ;", ";")}

    def add_to(self, app: web.Application) -> None:
        """Guard an application."""
        app[SESSIONS] = self._sessions

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await self._answer(request, handler)
            if not response.prepared:
                for name, value in self._headers.items():
                    response.headers.setdefault(name, value)
            return response

        app.middlewares.append(guard)
        app.router.add_post("/sign-in", self._sign_in)
        app.router.add_post("/sign-out", self._sign_out)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return self._refusal(request) or await self._checked(request, handler)
        except web.HTTPException as error:
            return page_of_error(request, error.status, error.text or error.reason)
        except tuple(SAID) as error:
            status, said = next(value for kind, value in SAID.items() if isinstance(error, kind))
            return page_of_error(request, status, said, str(error))
        except Exception:
            log.exception("a page failed", path=request.path)
            return page_of_error(request, 500, "This page met an error we did not foresee; the receiver's log has it.")

    def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        """Let nobody in without a session, and nothing from another site."""
        if request.path.startswith(f"{ROOT}/static/"):
            return None
        if not self._sessions.is_open:
            return page_of_error(request, 403, CLOSED)
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin is not None and urlsplit(origin).netloc != request.host:
            return page_of_error(request, 403, "This form came from another site. Nothing was done.")
        if request.path == f"{ROOT}/sign-in":
            return None
        session = self._sessions.read(request.cookies.get(COOKIE, ""))
        if session is None:
            return _come_again(request) or _form(request, 401)
        request[SESSION] = session
        return None

    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST" and SESSION in request:
            session, fields = request[SESSION], await request.post()
            given = str(fields.get("form_token", "")).encode(errors="replace")
            if not hmac.compare_digest(given, self._sessions.form_token(session).encode()):
                return page_of_error(request, 403, "The form is not one of this session's: load the page again.")
            if not session.may_act and request.path != f"{ROOT}/sign-out":
                return page_of_error(request, 403, "You are signed in to read only. Nothing was done.")
        return await handler(request)

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        address, fields = request.remote or "", await request.post()
        if wait := self._slowdown.wait(address):
            said = f"Too many wrong attempts: wait {math.ceil(wait)} s, then try again."
            return _form(request, 429, said, {"Retry-After": str(math.ceil(wait))})
        session = self._sessions.begin(str(fields.get("token", "")), str(fields.get("who", "")))
        if session is None:
            self._slowdown.failed(address)
            log.warning("wrong console token", address=address)
            return _form(request, 401, "That is not the token.")
        self._slowdown.worked(address)
        log.info("signed in", who=session.who, role=session.role)
        response = see(_within(str(fields.get("next", ""))))
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

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        self._sessions.end(request[SESSION])
        response = see("/console/")
        response.del_cookie(COOKIE, path="/console")
        return response


def standing(request: web.Request) -> dict[str, Any]:
    """Return what every page has: who is signed in, what they may do, and where they are."""
    session = request.get(SESSION)
    token = "" if session is None else request.config_dict[SESSIONS].form_token(session)
    return {"session": session, "form_token": token, "path": request.path, "may_act": bool(session and session.may_act)}


def see(path: str) -> web.Response:
    """Send the browser to another page, by GET."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path})


def page_of_error(request: web.Request, status: int, said: str, detail: str = "") -> web.Response:
    """Return an error as a page."""
    context = {
        **standing(request),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "said": said,
        "detail": detail,
    }
    return aiohttp_jinja2.render_template("error.html", request, context, status=status)


def _come_again(request: web.Request) -> web.StreamResponse | None:
    """Have a browser that follows a link in another site ask again, by itself: SameSite=Strict held its cookie back."""
    if request.method != "GET" or request.headers.get("Sec-Fetch-Site") != "cross-site":
        return None
    context = {**standing(request), "title": "One moment", "to": request.path_qs}
    return aiohttp_jinja2.render_template("again.html", request, context)


def _form(
    request: web.Request, status: int, said: str = "", headers: dict[str, str] | None = None
) -> web.StreamResponse:
    wanted = request.path_qs if request.method == "GET" else "/console/"
    response = aiohttp_jinja2.render_template(
        "sign_in.html", request, {**standing(request), "title": "Sign in", "said": said, "next": wanted}, status=status
    )
    response.headers.update(headers or {})
    return response


def _within(path: str) -> str:
    """Return a path of the console's, whatever was asked for."""
    return path if path.startswith("/console/") and "\\" not in path and path.isprintable() else "/console/"
