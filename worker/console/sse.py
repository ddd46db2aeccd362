"""Pages that keep up: a piece of the page is sent again whenever it has changed, as server-sent events."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp_sse import sse_response

from handlers.errors import FileProcessingError
from worker.console.auth import COOKIE, SESSIONS

EVERY_SECONDS: Final = 1.0
MOST_STREAMS: Final = 200
ENDING: Final = web.AppKey("ending", asyncio.Event)
Render = Callable[[], Awaitable[tuple[str, bool]]]
"""Returns the piece, and whether it is the last."""

_open: dict[int, web.Request] = {}


def let_end(app: web.Application) -> None:
    """End the streams of an application when it does: it would wait for them."""
    app[ENDING] = asyncio.Event()

    async def end(_app: web.Application) -> None:
        app[ENDING].set()

    app.on_shutdown.append(end)


async def stream(request: web.Request, render: Render) -> web.StreamResponse:
    """Send the piece until it is the last, the session is over, or nobody listens."""
    if len(_open) >= MOST_STREAMS:
        return web.Response(status=503, text="too many pages are being watched; reload this one instead")
    _open[id(request)] = request
    try:
        async with sse_response(request) as events:
            sent = ""
            while _listens(request):
                piece, last = await _rendered(render, sent)
                if piece != sent:
                    await events.send(sent := piece)
                if last:
                    await events.send("", event="end")
                    break
                await _tick(request.config_dict[ENDING])
    except (ConnectionResetError, TimeoutError):
        pass
    finally:
        del _open[id(request)]
    return events


def _listens(request: web.Request) -> bool:
    """Whether the browser is still there, its session holds, and the receiver goes on."""
    there = request.transport is not None and not request.transport.is_closing()
    session = request.config_dict[SESSIONS].read(request.cookies.get(COOKIE, ""))
    return there and session is not None and not request.config_dict[ENDING].is_set()


async def _rendered(render: Render, sent: str) -> tuple[str, bool]:
    try:
        return await render()
    except FileProcessingError:  # the database is away: what was sent last stays
        return sent, False


async def _tick(ending: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EVERY_SECONDS):
            await ending.wait()
