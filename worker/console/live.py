"""Pages that keep up: a piece of the page is sent again whenever it has changed, as server-sent events."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp_sse import sse_response

from handlers.errors import FileProcessingError
from worker.console.door import SESSION

EVERY_SECONDS: Final = 1.0
MOST_STREAMS: Final = 200
Render = Callable[[], Awaitable[tuple[str, bool]]]
"""Returns the piece, and whether it is the last."""

_open: dict[int, web.Request] = {}


async def stream(request: web.Request, render: Render) -> web.StreamResponse:
    """Send the piece until it is the last, the session is over, or nobody listens."""
    if len(_open) >= MOST_STREAMS:
        return web.Response(status=503, text="too many pages are being watched; reload this one instead")
    _open[id(request)] = request
    try:
        async with sse_response(request) as events:
            sent = ""
            while events.is_connected() and time.time() < request[SESSION].until:
                try:
                    piece, last = await render()
                except FileProcessingError:
                    piece, last = sent, False
                if piece != sent:
                    await events.send(sent := piece)
                if last:
                    await events.send("", event="end")
                    break
                await asyncio.sleep(EVERY_SECONDS)
    except (ConnectionResetError, TimeoutError):
        pass
    finally:
        del _open[id(request)]
    return events
