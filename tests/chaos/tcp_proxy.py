"""A TCP wire that can be cut, closed for a while, slowed down, silenced, and led elsewhere."""

import asyncio
import contextlib

REOPEN_SECONDS = 20.0
MOST_UNDER_WAY = 64


class TcpProxy:
    """Listens on a port of its own and pumps bytes to and from `target` (a port of 127.0.0.1)."""

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0  # seconds each piece of bytes is held back, both ways
        self.silence_at = b""  # once a piece of bytes has this in it, no more bytes pass, and nobody is told
        self.silenced = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task] = set()

    async def start(self) -> None:
        """Take connections; after `stop` on the same port as before."""
        async with asyncio.timeout(REOPEN_SECONDS):
            while self._server is None:
                try:
                    self._server = await asyncio.start_server(self._handle, "127.0.0.1", self.port)
                except OSError:  # for a moment somebody's outgoing connection may have our number
                    await asyncio.sleep(0.1)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and cut those there are."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            await self.cut()
            await server.wait_closed()

    async def cut(self) -> None:
        """Reset every connection; new ones are taken at once."""
        pairs = list(self._connections)
        for pair in pairs:
            pair.cancel()
        await asyncio.gather(*pairs, return_exceptions=True)

    async def refuse(self, seconds: float) -> None:
        """Cut, and refuse new connections for some seconds."""
        await self.stop()
        await asyncio.sleep(seconds)
        await self.start()

    async def slow(self, seconds: float, delay: float) -> None:
        """Hold back every piece of bytes for `delay` seconds, for some seconds."""
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
            pass  # an end of the line, however it came about
        else:
            await self._close_both(writer, far)
        finally:
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()
            self._connections.discard(pair)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, each piece `delay` after it came; others come meanwhile, and none overtakes another."""
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
        while self.silenced.is_set():  # nor is an end told
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
        """One end has closed: what it said last reaches the other, which is closed then. Nobody here half-closes."""
        for end in ends:
            end.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(end.wait_closed() for end in ends)), 5)
