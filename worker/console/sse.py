"""Live parts of pages: the HTML of a part is sent again whenever it changes, as server-sent events."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp_sse import sse_response

from handlers.errors import FileProcessingError
from worker.console.auth import SESSIONS, session_cookie
from worker.web.limits.connections import keep_open

RENDER_EVERY_SECONDS: Final = 1.0
MAX_STREAMS: Final = 200
STOPPING: Final = web.AppKey("stopping", asyncio.Event)
Render = Callable[[], Awaitable[tuple[str, bool]]]
"""Returns the HTML, and whether it is final."""

_open_streams: dict[int, web.Request] = {}


def end_streams_on_shutdown(app: web.Application) -> None:
    """End the streams of an application when it shuts down. Otherwise the shutdown would wait for them."""
    app[STOPPING] = asyncio.Event()

    async def stop(_app: web.Application) -> None:
        app[STOPPING].set()

    app.on_shutdown.append(stop)


async def stream(request: web.Request, render: Render) -> web.StreamResponse:
    """Send the HTML until it is final, the session ends, or the client disconnects.

    Return the stream, or an empty response if the client has disconnected before it began.
    """
    if len(_open_streams) >= MAX_STREAMS:
        return web.Response(status=503, text=f"{MAX_STREAMS} pages are live already; reload this page instead")
    html, final = await _render(render, "")  # raises before the stream begins if there is nothing to show
    response: web.StreamResponse = web.Response()
    if request.transport is None:
        return response
    keep_open(request)
    _open_streams[id(request)] = request
    try:
        async with sse_response(request) as events:
            response = events
            sent = ""
            while _should_continue(request):
                if html != sent:
                    await events.send(sent := html)
                if final:
                    await events.send("", event="end")
                    break
                await _wait(request.config_dict[STOPPING])
                html, final = await _render(render, sent)
    except (ConnectionResetError, TimeoutError, web.HTTPNotFound):
        pass
    finally:
        del _open_streams[id(request)]
    return response


def _should_continue(request: web.Request) -> bool:
    """Whether the client is connected, its session is valid, and the receiver is not shutting down."""
    connected = request.transport is not None and not request.transport.is_closing()
    session = request.config_dict[SESSIONS].read(session_cookie(request))
    return connected and session is not None and not request.config_dict[STOPPING].is_set()


async def _render(render: Render, sent: str) -> tuple[str, bool]:
    """Render; while the database does not answer, return what was sent last."""
    try:
        return await render()
    except FileProcessingError:
        return sent, False


async def _wait(stopping: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RENDER_EVERY_SECONDS):
            await stopping.wait()
