"""The way to PostgreSQL: a pool that outlives restarts of the server, and transactions in the caller's role."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from deploy.local.gateway.access import Caller

OUTAGES: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # its word for a connection whose last message was the server's farewell
    asyncpg.InvalidCachedStatementError,  # a table was altered since the statement was prepared: the next one is new
)
CONNECT_SECONDS: Final = 5.0
CONNECTIONS: Final = 12
SUPERUSER: Final = Caller("none", "")


class DatabaseDownError(Exception):
    """PostgreSQL cannot be reached now."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A superuser's connection that acts as whoever is asking. It stays in a role until another is asked for."""

    _caller: Caller | None = None

    async def act_as(self, caller: Caller) -> None:
        """Take a caller's role and claims, unless they are those of the last one."""
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
    """Pools of superuser connections to one database; connections are made when needed and replaced when lost.

    Callers have a pool of their own: a connection that serves one after the other has to change its role.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._pools: dict[bool, asyncpg.Pool] = {}

    async def start(self) -> None:
        """Open the pools. No connection is made yet: the gateway may start before its database."""
        for is_superusers in (True, False):
            self._pools[is_superusers] = await asyncpg.create_pool(
                self.url,
                min_size=0,
                max_size=CONNECTIONS,
                timeout=CONNECT_SECONDS,
                reset=_as_it_is,
                connection_class=Connection,
            )

    async def stop(self) -> None:
        """Close every connection at once; requests have ended before."""
        while self._pools:
            self._pools.popitem()[1].terminate()

    @asynccontextmanager
    async def statement(self, caller: Caller | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection to `caller`, else to the superuser; each statement is a transaction of its own.

        The body must not let an OSError of its own escape: it would be taken for an outage.

        Raises:
            DatabaseDownError: there is no database.
        """
        if not self._pools:
            raise DatabaseDownError("the gateway is not started")
        try:
            async with self._pools[caller is None].acquire(timeout=CONNECT_SECONDS) as connection:
                await connection.act_as(caller or SUPERUSER)
                yield connection
        except OUTAGES as error:
            raise DatabaseDownError(str(error) or type(error).__name__) from error

    @asynccontextmanager
    async def transaction(self, caller: Caller | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Open a transaction, otherwise as `statement`."""
        async with self.statement(caller) as connection, connection.transaction():
            yield connection


async def _as_it_is(_: asyncpg.Connection) -> None:
    """Leave a connection that comes back to the pool as it is, for the next one; `act_as` does what must be done."""


def quoted(name: str) -> str:
    """Return an SQL identifier, whatever it contains."""
    return '"' + name.replace('"', '""').replace("\0", "") + '"'
