"""Authentication of requests, and the translation of errors to the responses of the REST and the Storage API."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg
from aiohttp import web

from deploy.local.gateway.database import DatabaseDownError
from deploy.local.gateway.rest_errors import RestError, database_down, from_postgres, json_response
from deploy.local.gateway.storage.errors import (
    DATABASE_DOWN,
    INTERNAL,
    NO_TOKEN,
    NOT_ALLOWED,
    StorageApiError,
    bad_token,
)
from deploy.local.gateway.tokens import Caller, ProjectKeys, RoleError, TokenError, bearer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CallerHandler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
NO_KEY: Final = {
    "message": "No API key found in request",
    "hint": "No `apikey` request header or url param was found.",
}
CLIENT_CLOSED_REQUEST: Final = 499
BAD_KEY: Final = {
    "message": "Invalid API key",
    "hint": "Double check your Supabase `anon` or `service_role` API key.",
}


class RestAuth:
    """Authenticates requests to the REST API and translates errors to its responses."""

    def __init__(self, keys: ProjectKeys) -> None:
        self._keys = keys

    def required(self, handler: CallerHandler) -> Handler:
        """Return a handler that accepts only requests with a valid API key."""

        async def authenticated(request: web.Request) -> web.StreamResponse:
            try:
                caller = self._caller(request)
            except RestError as error:
                return error.response()
            if isinstance(caller, web.Response):
                return caller
            try:
                return await handler(request, caller)
            except RestError as error:
                return error.response()
            except DatabaseDownError:
                return database_down().response()
            except asyncpg.PostgresError as error:
                return from_postgres(error, caller.role).response()

        return authenticated

    def _caller(self, request: web.Request) -> Caller | web.Response:
        """Return the caller. The API key must be valid; the user's own bearer token, if there is one, sets the role."""
        key = request.headers.get("apikey") or request.query.get("apikey")
        if not key:
            return json_response(NO_KEY, 401)
        try:
            self._keys.read(key)
        except TokenError:
            return json_response(BAD_KEY, 401)
        try:
            return self._keys.caller(bearer(request.headers) or key)
        except TokenError as error:
            message = "JWT expired" if error.expired else "JWSError JWSInvalidSignature"
            raise RestError(401, "PGRST301", message) from None
        except RoleError as error:
            raise RestError(403, "42501", f'permission denied to set role "{error}"') from None


class StorageAuth:
    """Authenticates requests to the Storage API and translates errors to its responses."""

    def __init__(self, keys: ProjectKeys) -> None:
        self._keys = keys

    def required(self, handler: CallerHandler) -> Handler:
        """Return a handler that accepts only requests with a valid token."""

        async def authenticated(request: web.Request) -> web.StreamResponse:
            return await handler(request, self._caller(request))

        return self.public(authenticated)

    def optional(self, handler: Callable[[web.Request, Caller | None], Awaitable[web.StreamResponse]]) -> Handler:
        """Return a handler that accepts every request; the caller is None when there is no valid token."""

        async def authenticated(request: web.Request) -> web.StreamResponse:
            caller = None
            with contextlib.suppress(StorageApiError):
                caller = self._caller(request)
            return await handler(request, caller)

        return self.public(authenticated)

    def public(self, handler: Handler) -> Handler:
        """Return a handler that accepts every request without authentication."""

        async def translated(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except StorageApiError as error:
                return error.response()
            except DatabaseDownError:
                return StorageApiError(*DATABASE_DOWN).response()
            except asyncpg.InsufficientPrivilegeError:
                return StorageApiError(*NOT_ALLOWED).response()
            except asyncpg.PostgresError:
                return StorageApiError(*INTERNAL).response()
            except ConnectionResetError:
                return web.Response(status=CLIENT_CLOSED_REQUEST)  # never sent: the client closed the connection

        return translated

    def _caller(self, request: web.Request) -> Caller:
        token = bearer(request.headers) or request.headers.get("apikey")
        if not token:
            raise StorageApiError(*NO_TOKEN)
        try:
            return self._keys.caller(token)
        except (TokenError, RoleError) as error:
            raise bad_token(str(error)) from None
