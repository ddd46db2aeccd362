"""A source on 127.0.0.1 that sends exactly the bytes a test chooses, valid HTTP or not."""

import asyncio
import contextlib
import socket
import struct


def head(status="200 OK", version="1.1", **headers):
    """Return a response's status line and headers; `content_length=5` becomes `Content-Length: 5`, None is left out."""
    lines = [f"{name.replace('_', '-').title()}: {value}\r\n" for name, value in headers.items() if value is not None]
    return f"HTTP/{version} {status}\r\n{''.join(lines)}\r\n".encode()


async def send(writer, *pieces):
    for piece in pieces:
        writer.write(piece)
        await writer.drain()


def reset(writer):
    """End the connection with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


KEEP_ALIVE = "keep-alive"
"""A response function returns it to keep the connection open for another request."""


class RawServer:
    """Answers each request with `respond(writer, request)`; then closes the connection, unless that returns KEEP_ALIVE.

    `requests` are the requests received: header values by lower-case name, the path as `path`. `disconnects` counts
    the connections that the client closed before the response was complete.
    """

    def __init__(self, respond):
        self._respond = respond
        self._connections = {}
        self.requests = []
        self.disconnects = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc):
        self._server.close()
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*self._connections)

    async def _serve(self, reader, writer):
        self._connections[asyncio.current_task()] = writer
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._serve_request(reader, writer) == KEEP_ALIVE:
                    pass
        finally:
            del self._connections[asyncio.current_task()]
            writer.close()

    async def _serve_request(self, reader, writer):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        request = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        request["path"] = lines[0].split(" ")[1]
        self.requests.append(request)
        response = asyncio.ensure_future(self._respond(writer, request))
        disconnect = asyncio.ensure_future(_wait_for_disconnect(reader, writer))
        try:
            await asyncio.wait({response, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if response.done():
                return response.result()
            self.disconnects += 1
            return None
        finally:
            for task in (response, disconnect):
                task.cancel()
            await asyncio.gather(response, disconnect, return_exceptions=True)


async def _wait_for_disconnect(reader, writer):
    """Wait until the client has closed the connection, without reading further requests."""
    while not reader.at_eof() and reader.exception() is None and not writer.transport.is_closing():
        await asyncio.sleep(0.01)
