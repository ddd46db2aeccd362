"""The doors of the gateway: who may come in, and how each service says no."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg
from aiohttp import web

from deploy.local.gateway.access import Caller, Keys, RoleError, TokenError, bearer
from deploy.local.gateway.database import DatabaseDownError
from deploy.local.gateway.rest_errors import RestError, database_down, from_postgres, json_answer
from deploy.local.gateway.storage_errors import (
    DATABASE_DOWN,
    INTERNAL,
    NO_TOKEN,
    NOT_ALLOWED,
    StorageRefusal,
    bad_token,
)

Open = Callable[[web.Request], Awaitable[web.StreamResponse]]
Guarded = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
NO_KEY: Final = {
    "message": "No API key found in request",
    "hint": "No `apikey` request header or url param was found.",
}
CLIENT_GONE: Final = 499
BAD_KEY: Final = {
    "message": "Invalid API key",
    "hint": "Double check your Supabase `anon` or `service_role` API key.",
}


class RestDoor:
    """Lets requests to the REST API in, and turns what goes wrong into its answers."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def __call__(self, handler: Guarded) -> Open:
        """Let in who has a good key."""

        async def enter(request: web.Request) -> web.StreamResponse:
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

        return enter

    def _caller(self, request: web.Request) -> Caller | web.Response:
        """Return whom the tokens speak for: the key must be good, and the user's own token counts if there is one."""
        key = request.headers.get("apikey") or request.query.get("apikey")
        if not key:
            return json_answer(NO_KEY, 401)
        try:
            self._keys.read(key)
        except TokenError:
            return json_answer(BAD_KEY, 401)
        try:
            return self._keys.caller(bearer(request.headers) or key)
        except TokenError as error:
            message = "JWT expired" if error.expired else "JWSError JWSInvalidSignature"
            raise RestError(401, "PGRST301", message) from None
        except RoleError as error:
            raise RestError(403, "42501", f'permission denied to set role "{error}"') from None


class StorageDoor:
    """Lets requests to the Storage API in, and turns what goes wrong into its answers."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def __call__(self, handler: Guarded) -> Open:
        """Let in who has a good token."""

        async def check(request: web.Request) -> web.StreamResponse:
            return await handler(request, self._caller(request))

        return self.open(check)

    def maybe(self, handler: Callable[[web.Request, Caller | None], Awaitable[web.StreamResponse]]) -> Open:
        """Let anybody in: where there is no good token, the handler is told so."""

        async def check(request: web.Request) -> web.StreamResponse:
            caller = None
            with contextlib.suppress(StorageRefusal):
                caller = self._caller(request)
            return await handler(request, caller)

        return self.open(check)

    def open(self, handler: Open) -> Open:
        """Let anybody in."""

        async def enter(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except StorageRefusal as refusal:
                return refusal.response()
            except DatabaseDownError:
                return StorageRefusal(*DATABASE_DOWN).response()
            except asyncpg.InsufficientPrivilegeError:
                return StorageRefusal(*NOT_ALLOWED).response()
            except asyncpg.PostgresError:
                return StorageRefusal(*INTERNAL).response()
            except ConnectionResetError:
                return web.Response(status=CLIENT_GONE)  # in the middle of what it sent; nobody hears this

        return enter

    def _caller(self, request: web.Request) -> Caller:
        token = bearer(request.headers) or request.headers.get("apikey")
        if not token:
            raise StorageRefusal(*NO_TOKEN)
        try:
            return self._keys.caller(token)
        except (TokenError, RoleError) as error:
            raise bad_token(str(error)) from None
