"""Limits for the connections of an HTTP server: their number, and the time and bytes that a client may take.

aiohttp limits neither how long a client takes to send the head of a request nor how many connections are open. Each
connection therefore has a protocol of ours in front of aiohttp's, which passes everything on and keeps a deadline.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

from worker.web.limits.client_connection import ClientConnection

log = structlog.stdlib.get_logger(__name__)
MAX_CONNECTIONS: Final = 512
"""Open connections, without authenticated event streams. A new one replaces the one that has waited longest."""
MAX_READ_BYTES: Final = 64 * 1024
"""Maximum size of one read from a connection. The event loop's own buffer is four times as large."""
LINGER_SECONDS: Final = 1.0
"""Time between the response to a refused body and the close, in which the client can read the response."""
CHECK_SECONDS: Final = 1.0
CONNECTION: Final = web.RequestKey("connection", ClientConnection)


class Connections:
    """The connections of one server."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(MAX_READ_BYTES))
        self._open: dict[web.RequestHandler, ClientConnection] = {}
        self._closed: Counter[str] = Counter()

    def create(self, aiohttp_protocol: web.RequestHandler) -> ClientConnection:
        """Return the protocol of a new connection."""
        return ClientConnection(self, aiohttp_protocol)

    def admit(self, connection: ClientConnection) -> bool:
        """Count a connection. With too many, close the one that has waited longest for a request, or else this one."""
        self.remember(connection)
        if len(self._open) <= MAX_CONNECTIONS:
            return True
        waiting = (other for other in self._open.values() if other.waiting_since is not None)
        longest = min(waiting, key=lambda other: other.waiting_since or 0.0)
        self.close(longest, "too_many")
        return longest is not connection

    def close(self, connection: ClientConnection, reason: str) -> None:
        """Close a connection, and count it for the log."""
        self.count_closed(reason)
        self.forget(connection)
        connection.abort()

    def count_closed(self, reason: str) -> None:
        """Count a closed connection for the log."""
        self._closed[reason] += 1

    def remember(self, connection: ClientConnection) -> None:
        """Count and limit a connection."""
        self._open[connection.aiohttp_protocol] = connection

    def forget(self, connection: ClientConnection) -> None:
        """No longer count or limit a connection."""
        self._open.pop(connection.aiohttp_protocol, None)

    @contextlib.asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Close connections at their deadlines while the context is entered."""
        closing = asyncio.create_task(self._close_at_deadlines(), name="connection limits")
        try:
            yield
        finally:
            closing.cancel()

    async def _close_at_deadlines(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now = time.monotonic()
            for connection in [c for c in self._open.values() if c.closes_at < now]:
                self.close(connection, "too_slow")
            if self._closed:
                log.warning("connections closed", **self._closed)
                self._closed.clear()

    def middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """Return the middleware that follows the requests. It must be the first."""

        @web.middleware
        async def follow(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            connection = self._open.get(request.protocol)
            if connection is None:
                return await handler(request)
            connection.begin(request)
            request[CONNECTION] = connection
            try:
                response = await handler(request)
            finally:
                connection.end()
            if not request.content.is_eof():
                response.force_close()
            return response

        return follow


def keep_open(request: web.Request) -> None:
    """Remove the time limit of a request. Call it after authentication only."""
    if CONNECTION in request:
        request[CONNECTION].keep_open()
