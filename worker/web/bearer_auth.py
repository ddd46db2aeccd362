"""Authentication of the HTTP API: a bearer token equal to API_TOKEN. Without API_TOKEN, every request is refused."""

import hmac
from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web
from pydantic import SecretStr

from worker.web.problem_details import problem

RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BearerAuth:
    """Checks the bearer token of requests."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = None if token is None else token.get_secret_value().encode()

    def required(self, handler: RequestHandler) -> RequestHandler:
        """Return a handler that first checks the token."""

        @wraps(handler)
        async def checked(request: web.Request) -> web.StreamResponse:
            return self.refusal(request) or await handler(request)

        return checked

    def refusal(self, request: web.Request) -> web.Response | None:
        """Return a 401 response, or None if the request has the right token."""
        if self._token is None:
            return _refused("the API is closed, because API_TOKEN is not set", "set API_TOKEN for the receiver")
        if has_token(request, self._token):
            return None
        return _refused("this route requires the API token", "send Authorization: Bearer <API_TOKEN>")


def has_token(request: web.Request, token: bytes) -> bool:
    """Whether the request has this bearer token."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    sent = credentials.strip().encode(errors="surrogateescape")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent, token)


def _refused(detail: str, hint: str) -> web.Response:
    return problem(401, "not_authenticated", detail, hint, {"WWW-Authenticate": "Bearer"})
