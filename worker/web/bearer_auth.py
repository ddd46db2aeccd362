"""Who may use the HTTP API: whoever presents API_TOKEN as a bearer token. Without one configured, nobody."""

import hmac
from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web
from pydantic import SecretStr

from worker.web.problem_details import problem

RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BearerAuth:
    """The door of the API's routes."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = None if token is None else token.get_secret_value().encode()

    def guarded(self, handler: RequestHandler) -> RequestHandler:
        """Return the handler behind the door."""

        @wraps(handler)
        async def checked(request: web.Request) -> web.StreamResponse:
            return self.refusal(request) or await handler(request)

        return checked

    def refusal(self, request: web.Request) -> web.Response | None:
        """Return the answer to a request that may not enter; None when it may."""
        if self._token is None:
            return _refused("the API is closed: no API_TOKEN is configured", "set API_TOKEN for the receiver")
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        token = presented.strip().encode(errors="surrogateescape")
        if scheme.lower() == "bearer" and hmac.compare_digest(token, self._token):
            return None
        return _refused("this route needs the API's token", "send Authorization: Bearer <API_TOKEN>")


def _refused(detail: str, hint: str) -> web.Response:
    return problem(401, "not_authenticated", detail, hint, {"WWW-Authenticate": "Bearer"})
