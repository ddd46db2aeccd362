"""Connections to PostgreSQL: pools that recover when the server restarts, and statements in the caller's role."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from deploy.local.gateway.tokens import Caller

CONNECTION_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # raised on a connection that the server has just closed
    asyncpg.InvalidCachedStatementError,  # a table was altered after the statement was prepared; a retry succeeds
)
CONNECT_SECONDS: Final = 5.0
POOL_SIZE: Final = 12
SUPERUSER: Final = Caller("none", "")


class DatabaseDownError(Exception):
    """PostgreSQL cannot be reached."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A superuser's connection that runs statements in the role of a caller. It keeps the role until another is set."""

    _caller: Caller | None = None

    async def act_as(self, caller: Caller) -> None:
        """Set the role and claims of a caller, unless they are set already."""
        if self._caller == caller:
            return
        self._caller = None
        await self.execute(
            "select set_config('role', $1, false), set_config('request.jwt.claims', $2, false)",
            caller.role,
            caller.claims,
        )
        self._caller = caller


class Database:
    """Pools of superuser connections to one database. Connections are opened on demand and replaced when lost.

    Statements of the gateway itself and those of callers use separate pools, so that roles are changed less often.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._pools: dict[bool, asyncpg.Pool] = {}

    async def start(self) -> None:
        """Create the pools without a connection, because the gateway may start before its database."""
        for for_superuser in (True, False):
            self._pools[for_superuser] = await asyncpg.create_pool(
                self.url,
                min_size=0,
                max_size=POOL_SIZE,
                timeout=CONNECT_SECONDS,
                reset=_skip_reset,
                connection_class=Connection,
            )

    async def stop(self) -> None:
        """Close every connection at once. All requests must have ended."""
        while self._pools:
            self._pools.popitem()[1].terminate()

    @asynccontextmanager
    async def statement(self, caller: Caller | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection in the role of `caller`, or of the superuser. Each statement is its own transaction.

        An OSError of the body must not leave the context: it would be reported as an unavailable database.

        Raises:
            DatabaseDownError: the database cannot be reached.
        """
        if not self._pools:
            raise DatabaseDownError("the gateway is not started; call start() first")
        try:
            async with self._pools[caller is None].acquire(timeout=CONNECT_SECONDS) as connection:
                await connection.act_as(caller or SUPERUSER)
                yield connection
        except CONNECTION_ERRORS as error:
            raise DatabaseDownError(str(error) or type(error).__name__) from error

    @asynccontextmanager
    async def transaction(self, caller: Caller | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection like `statement`, in a transaction."""
        async with self.statement(caller) as connection, connection.transaction():
            yield connection


async def _skip_reset(_: asyncpg.Connection) -> None:
    """Replace the pool's reset of a returned connection: `act_as` sets role and claims before each use anyway."""


def quoted(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""').replace("\0", "") + '"'
