"""Limits for the connections of an HTTP server: their number, and the time and bytes that a client may take.

aiohttp limits neither how long a client takes to send the head of a request nor how many connections are open. Each
connection therefore has a protocol of ours in front of aiohttp's, which passes everything on and keeps a deadline.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, cast

import structlog
from aiohttp import web

from worker.web.request_bytes import BAD_REQUEST, MAX_LINE_BYTES, BodyBytes, is_good_line

log = structlog.stdlib.get_logger(__name__)
MAX_CONNECTIONS: Final = 512
"""Open connections, without authenticated event streams. A new one replaces the one that has waited longest."""
MAX_HEAD_BYTES: Final = 32 * 1024
"""Request line and headers together. aiohttp limits each line to 8 KiB, but would accept 128 of them."""
MAX_READ_BYTES: Final = 64 * 1024
"""Maximum size of one read from a connection. The event loop's own buffer is four times as large."""
HEAD_SECONDS: Final = 10.0
"""Time limit for a request's head, from the connection or from the first byte of a further request."""
IDLE_SECONDS: Final = 75.0
"""Time limit between two requests. Longer than the 60 s for which proxies usually keep connections."""
REQUEST_SECONDS: Final = 120.0
"""Time limit for one request, from the end of its head to the end of its response. Not for event streams."""
LINGER_SECONDS: Final = 1.0
"""Time between the response to a refused body and the close, in which the client can read the response."""
CHECK_SECONDS: Final = 1.0
END_OF_HEAD: Final = b"\r\n\r\n"


class ClientConnection(asyncio.BufferedProtocol):
    """One connection. `closes_at` is when it is closed, by the clock `time.monotonic`."""

    def __init__(self, connections: "Connections", aiohttp_protocol: web.RequestHandler) -> None:
        self.aiohttp_protocol = aiohttp_protocol
        self.closes_at = time.monotonic() + HEAD_SECONDS
        self.waiting_since: float | None = time.monotonic()
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._request: web.Request | None = None
        self._body: BodyBytes | None = None
        self._head_bytes = 0
        self._line: bytes | None = b""
        self._last_bytes = b""
        self._head_is_complete = False
        self._bytes_after_head = 0
        self._held = b""
        self._discards = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start, unless there are too many connections."""
        self._transport = cast("asyncio.Transport", transport)
        if self._connections.admit(self):
            self.aiohttp_protocol.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - more than we want to read
        """Return where to read to. All connections use the same buffer, because it is emptied at once."""
        return self._connections.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(bytes(self._connections.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Pass data on. Ends a connection whose head is bad or too large, or that pipelines requests."""
        if self._discards:
            self._stop_reading()
        elif self._body is not None:
            self._pass_body(self._body, data)
        elif self._head_is_complete:
            self._hold(data)
        elif not self._is_head_in_bounds(data):
            self._connections.close(self, "head_too_large")
        else:
            self._pass_head(data)

    def eof_received(self) -> bool | None:
        """Pass on that the client sends no more."""
        self.aiohttp_protocol.eof_received()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.forget(self)
        self.aiohttp_protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the client reads slowly."""
        self.aiohttp_protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client reads again."""
        self.aiohttp_protocol.resume_writing()

    def begin(self, request: web.Request) -> None:
        """Begin a request: its head is complete."""
        self._request, self._body, self.waiting_since = request, BodyBytes(request), None
        self.closes_at = time.monotonic() + REQUEST_SECONDS
        held, self._held = self._held, b""
        if held:
            self._continue_reading()
            self._pass_body(self._body, held)

    def end(self) -> None:
        """End a request: its response is ready to be sent. What has not arrived of its body is not read."""
        now = self.waiting_since = time.monotonic()
        self._discards = self._request is not None and not self._request.content.is_eof()
        if self._discards:
            self._stop_reading()
        self.closes_at = now + (HEAD_SECONDS if self._discards else IDLE_SECONDS)
        self._request = self._body = None
        self._head_bytes, self._line, self._last_bytes, self._head_is_complete = 0, b"", b"", False
        if self._transport is not None and not self._transport.is_closing():
            self._connections.remember(self)  # after `keep_open`

    def keep_open(self) -> None:
        """Remove the limits of the current request, which has been authenticated."""
        self._connections.forget(self)

    def abort(self) -> None:
        """Close at once, without sending what is left."""
        if self._transport is not None:
            self._transport.abort()

    def _stop_reading(self) -> None:
        """Leave the rest of a body in the kernel's buffer. Reading and discarding it would delay other requests."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _continue_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _hold(self, data: bytes) -> None:
        """Keep what follows a head until its request begins: only then it is known whether it is a body."""
        self._held += data
        self._stop_reading()

    def _pass_body(self, body: BodyBytes, data: bytes) -> None:
        """Pass on what belongs to the body. Ends a connection that sends more."""
        passed = 0
        for piece in body.pieces(data):
            self.aiohttp_protocol.data_received(piece)
            passed += len(piece)
        if body.is_wasteful:
            self._connections.close(self, "wasteful_body")
        elif passed < len(data):
            # A request that is sent before the response of the previous one would wait in memory. No client does it.
            self.aiohttp_protocol.close()

    def _pass_head(self, data: bytes) -> None:
        """Pass on what belongs to the head, with a good request line, and hold what follows."""
        end = len(data)
        if self._head_is_complete:
            end -= self._bytes_after_head
        if end < len(data):
            self._hold(data[end:])
        head = data[:end]
        if self._line is not None:
            head = self._line + head
            line, newline, _ = head.partition(b"\n")
            if not newline and len(head) <= MAX_LINE_BYTES:
                self._line = head
                return
            self._line = None
            if len(line) > MAX_LINE_BYTES or not is_good_line(line + newline):
                self._refuse()
                return
        self.aiohttp_protocol.data_received(head)

    def _refuse(self) -> None:
        """Answer a bad request line, and close the connection."""
        if self._transport is not None:
            self._transport.write(BAD_REQUEST)
            self._transport.close()
        self._connections.count_closed("bad_request_line")

    def _is_head_in_bounds(self, data: bytes) -> bool:
        """Count the bytes of a head until its end."""
        if self._head_bytes == 0:
            self.closes_at = time.monotonic() + HEAD_SECONDS
        received = self._last_bytes + data
        _, end, rest = received.partition(END_OF_HEAD)
        self._head_is_complete, self._bytes_after_head = bool(end), len(rest)
        self._head_bytes += len(data) - len(rest) if end else len(data)
        self._last_bytes = received[-len(END_OF_HEAD) + 1 :]
        return self._head_bytes <= MAX_HEAD_BYTES


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
