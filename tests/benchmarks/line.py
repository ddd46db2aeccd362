"""A line to a server that is far away: every byte takes its time, in both directions, and none overtakes another."""

import asyncio
from collections import deque
from typing import Self

from yarl import URL


class _End(asyncio.Protocol):
    """One end of a connection; what comes in here goes out at the other, `seconds` later."""

    def __init__(self, seconds: float) -> None:
        self.other: _End | None = None
        self._seconds = seconds
        self._under_way: deque[bytes | None] = deque()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._send(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._send(None)

    def _send(self, data: bytes | None) -> None:
        self._under_way.append(data)
        asyncio.get_running_loop().call_later(self._seconds, self._arrive)

    def _arrive(self) -> None:
        data, end = self._under_way.popleft(), self.other
        if end is None or end._transport is None:
            return
        if data is None:
            end._transport.close()
        else:
            end._transport.write(data)

    def joined(self, other: Self) -> None:
        """Be the other end of `other`."""
        self.other, other.other = other, self


class _Near(_End):
    """The end that a client sees; the far one is connected when it comes."""

    def __init__(self, url: URL, seconds: float) -> None:
        super().__init__(seconds)
        self._url = url
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        far = _End(self._seconds)
        self.joined(far)
        await asyncio.get_running_loop().create_connection(lambda: far, self._url.host, self._url.port)


async def serve(url: str, round_trip: float) -> int:
    """Lead whoever connects to the server at `url`, over a line of so many seconds there and back; return the port."""
    server = await asyncio.get_running_loop().create_server(lambda: _Near(URL(url), round_trip / 2), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port
