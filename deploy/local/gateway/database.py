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


class DatabaseDownError(Exception):
    """PostgreSQL cannot be reached now."""


class Database:
    """A pool of superuser connections to one database; connections are made when needed and replaced when lost."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._pool: asyncpg.Pool | None = None

    async def start(self) -> None:
        """Open the pool. No connection is made yet: the gateway may start before its database."""
        self._pool = await asyncpg.create_pool(
            self.url, min_size=0, max_size=CONNECTIONS, timeout=CONNECT_SECONDS, reset=_as_it_is
        )

    async def stop(self) -> None:
        """Close every connection at once; requests have ended before."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    @asynccontextmanager
    async def transaction(self, caller: Caller | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Open a transaction as `caller`, else as the superuser; raise DatabaseDownError when there is no database.

        The body must not let an OSError of its own escape: it would be taken for an outage.
        """
        if self._pool is None:
            raise DatabaseDownError("the gateway is not started")
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection, connection.transaction():
                if caller is not None:
                    await connection.execute(
                        "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)",
                        caller.role,
                        caller.claims,
                    )
                yield connection
        except OUTAGES as error:
            raise DatabaseDownError(str(error) or type(error).__name__) from error


async def _as_it_is(_: asyncpg.Connection) -> None:
    """Leave a connection that comes back to the pool as it is, as PostgREST does: a request's settings end with it."""


def quoted(name: str) -> str:
    """Return an SQL identifier, whatever it contains."""
    return '"' + name.replace('"', '""').replace("\0", "") + '"'
