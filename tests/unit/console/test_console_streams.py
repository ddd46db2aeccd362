"""Live parts of pages, when the client leaves before the stream begins."""

import asyncio

import pytest
from aiohttp import web

from tests.time_limits import WAIT_SECONDS
from worker.console import sse


@pytest.mark.parametrize("closes_itself", [False, True])
async def test_a_client_that_left_before_the_stream_gets_an_empty_response(closes_itself):
    """Either the connection is gone already, or it is about to close."""
    rendering, ended = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def page(request):
        async def render():
            rendering.set()
            if closes_itself:
                request.transport.close()
            else:
                while request.transport is not None:
                    await asyncio.sleep(0.01)
            return "<p>the part</p>", False

        try:
            ended.set_result(await sse.stream(request, render))
        except BaseException as error:
            ended.set_exception(error)
            raise
        return ended.result()

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with asyncio.timeout(WAIT_SECONDS):
        _, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET / HTTP/1.1\r\nHost: console\r\n\r\n")
        await rendering.wait()
        if not closes_itself:
            writer.transport.abort()
        response = await ended
        writer.close()
    assert response.body is None
    await runner.cleanup()
