"""One client's connection: passes bytes on to aiohttp's protocol, within the limits, and keeps a deadline."""

import asyncio
import time
from typing import Final, Protocol, cast

from aiohttp import web

from worker.web.limits.body_bytes import BodyBytes
from worker.web.limits.request_head import BAD_REQUEST, BadRequestLineError, HeadTooLargeError, RequestHead

HEAD_SECONDS: Final = 10.0
"""Time limit for a request's head, from the connection or from the first byte of a further request."""
IDLE_SECONDS: Final = 75.0
"""Time limit between two requests. Longer than the 60 s for which proxies usually keep connections."""
REQUEST_SECONDS: Final = 120.0
"""Time limit for one request, from the end of its head to the end of its response. Not for event streams."""
MAX_HEAD_READ_BYTES: Final = 8 * 1024
"""Maximum size of one read that begins in a head. What follows the head in it waits in memory for its request."""


class ConnectionLimiter(Protocol):
    """What a connection needs of `Connections`."""

    buffer: memoryview

    def admit(self, connection: "ClientConnection") -> bool:
        """Count a new connection; return whether it may stay."""

    def remember(self, connection: "ClientConnection") -> None:
        """Count and limit a connection."""

    def forget(self, connection: "ClientConnection") -> None:
        """No longer count or limit a connection."""

    def close(self, connection: "ClientConnection", reason: str) -> None:
        """Close a connection, and count it for the log."""

    def count_closed(self, reason: str) -> None:
        """Count a closed connection for the log."""


class ClientConnection(asyncio.BufferedProtocol):
    """One connection. `closes_at` is when it is closed, by the clock `time.monotonic`."""

    def __init__(self, connections: ConnectionLimiter, aiohttp_protocol: web.RequestHandler) -> None:
        self.aiohttp_protocol = aiohttp_protocol
        self.closes_at = time.monotonic() + HEAD_SECONDS
        self.waiting_since: float | None = time.monotonic()
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._request: web.Request | None = None
        self._body: BodyBytes | None = None
        self._head = RequestHead()
        self._held = b""
        self._discards = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start, unless there are too many connections."""
        self._transport = cast("asyncio.Transport", transport)
        if self._connections.admit(self):
            self.aiohttp_protocol.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - more than we want to read
        """Return where to read to. All connections use the same buffer, because it is emptied at once."""
        return self._connections.buffer if self._body is not None else self._connections.buffer[:MAX_HEAD_READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(bytes(self._connections.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Pass data on. Ends a connection whose head is bad or too large, or that pipelines requests."""
        if self._discards:
            self._stop_reading()
        elif self._body is not None:
            self._pass_body(self._body, data)
        elif self._head.is_complete:
            self._hold(data)
        else:
            self._receive_head(data)

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
        self._head = RequestHead()
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
            self._pass_on(piece)
            passed += len(piece)
        if body.is_wasteful:
            self._connections.close(self, "wasteful_body")
        elif passed < len(data):
            # A request that is sent before the response of the previous one would wait in memory. No client does it.
            self.aiohttp_protocol.close()

    def _receive_head(self, data: bytes) -> None:
        """Pass on what belongs to a head within the limits, and hold what follows it."""
        if self._head.is_empty:
            self.closes_at = time.monotonic() + HEAD_SECONDS
        try:
            head, following = self._head.take(data)
        except HeadTooLargeError:
            self._connections.close(self, "head_too_large")
        except BadRequestLineError:
            self._refuse()
        else:
            if following:
                self._hold(following)
            if head:
                self._pass_on(head)

    def _pass_on(self, data: bytes) -> None:
        """Pass data on. What aiohttp's parser raises, beside what it answers itself, ends the connection."""
        try:
            self.aiohttp_protocol.data_received(data)
        except Exception:  # noqa: BLE001 - asyncio would log the traceback of each
            self._connections.close(self, "not_parsed")

    def _refuse(self) -> None:
        """Answer a bad request line, and close the connection."""
        if self._transport is not None:
            self._transport.write(BAD_REQUEST)
            self._transport.close()
        self._connections.count_closed("bad_request_line")
