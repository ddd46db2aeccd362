"""A TCP proxy whose connections can be reset, refused, delayed or silenced, and whose target can change."""

import asyncio
import contextlib

REOPEN_SECONDS = 20.0
MOST_UNDER_WAY = 64


class TcpProxy:
    """Listens on a port of its own and copies bytes to and from `target` (a port of 127.0.0.1)."""

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0  # seconds by which each chunk is delayed, in both directions
        self.silence_at = (
            b""  # from the first chunk that contains this, no more bytes are forwarded, without closing anything
        )
        self.silenced = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task] = set()

    async def start(self) -> None:
        """Accept connections; after `stop` on the same port as before."""
        async with asyncio.timeout(REOPEN_SECONDS):
            while self._server is None:
                try:
                    self._server = await asyncio.start_server(self._handle, "127.0.0.1", self.port)
                except OSError:  # an outgoing connection may briefly have this port
                    await asyncio.sleep(0.1)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse new connections and reset the open ones."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            await self.cut()
            await server.wait_closed()

    async def cut(self) -> None:
        """Reset every connection; new ones are accepted at once."""
        pairs = list(self._connections)
        for pair in pairs:
            pair.cancel()
        await asyncio.gather(*pairs, return_exceptions=True)

    async def refuse(self, seconds: float) -> None:
        """Reset all connections, and refuse new ones for `seconds`."""
        await self.stop()
        await asyncio.sleep(seconds)
        await self.start()

    async def slow(self, seconds: float, delay: float) -> None:
        """Delay every chunk by `delay` seconds, for `seconds`."""
        self.delay = delay
        await asyncio.sleep(seconds)
        self.delay = 0.0

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = asyncio.current_task()
        self._connections.add(pair)
        far = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.target)
            pumps = (self._pump(reader, far), self._pump(far_reader, writer))
            both = [asyncio.create_task(pump) for pump in pumps]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in both:
                    pump.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # one end was reset, or `cut` was called
        else:
            await self._close_both(writer, far)
        finally:
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()
            self._connections.discard(pair)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward chunks in order, each `delay` seconds after it arrived."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST_UNDER_WAY)
        passing = asyncio.create_task(self._pass_on(under_way, writer))
        try:
            data = b"begun"
            while data:
                try:
                    data = await reader.read(65536)
                except OSError:
                    data = b""
                await under_way.put((loop.time() + self.delay, data))
            await passing
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)
        while self.silenced.is_set():  # while silenced, the end of a connection is not forwarded either
            await asyncio.sleep(0.1)

    async def _pass_on(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                due, data = await under_way.get()
                if (early := due - loop.time()) > 0:
                    await asyncio.sleep(early)
                if not data:
                    return
                if self.silence_at and self.silence_at in data:
                    self.silenced.set()
                if not self.silenced.is_set():
                    writer.write(data)
                    await writer.drain()

    @staticmethod
    async def _close_both(*ends: asyncio.StreamWriter) -> None:
        """One end has closed: flush and close both. Half-closed connections are not supported."""
        for end in ends:
            end.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(end.wait_closed() for end in ends)), 5)
