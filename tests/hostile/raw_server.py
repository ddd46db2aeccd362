"""A source at the level of bytes, on 127.0.0.1: it says exactly what a test wants said, however rude."""

import asyncio
import contextlib
import socket
import struct


def head(status="200 OK", version="1.1", **headers):
    """The head of an answer; `content_length=5` becomes `Content-Length: 5`, None is left out."""
    lines = [f"{name.replace('_', '-').title()}: {value}\r\n" for name, value in headers.items() if value is not None]
    return f"HTTP/{version} {status}\r\n{''.join(lines)}\r\n".encode()


async def send(writer, *pieces):
    for piece in pieces:
        writer.write(piece)
        await writer.drain()


def reset(writer):
    """Cut the connection with RST instead of an orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Raw:
    """Answers each request with `answer(writer, request)`; then the connection ends, unless that returns "more".

    `requests` are those seen: header by name in small letters, the path as `path`. `left` counts the connections
    that the client ended while an answer was still being written or waited.
    """

    def __init__(self, answer):
        self._answer = answer
        self._talks = {}
        self.requests = []
        self.left = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc):
        self._server.close()
        for writer in self._talks.values():
            writer.transport.abort()
        await asyncio.gather(*self._talks)

    async def _talk(self, reader, writer):
        self._talks[asyncio.current_task()] = writer
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._one(reader, writer) == "more":
                    pass
        finally:
            del self._talks[asyncio.current_task()]
            writer.close()

    async def _one(self, reader, writer):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        request = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        request["path"] = lines[0].split(" ")[1]
        self.requests.append(request)
        answering = asyncio.ensure_future(self._answer(writer, request))
        leaving = asyncio.ensure_future(_gone(reader, writer))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return answering.result()
            self.left += 1
            return None
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)


async def _gone(reader, writer):
    """Wait until the client has ended the connection; nothing is taken from what it may still say."""
    while not reader.at_eof() and reader.exception() is None and not writer.transport.is_closing():
        await asyncio.sleep(0.01)
