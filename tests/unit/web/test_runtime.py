"""Serving HTTP: the addresses to listen on."""

import aiohttp
from aiohttp import web

from deploy.local.processes import free_port
from worker.runtime import serve
from worker.web.problem_details import problem_middleware


async def test_two_colons_listen_on_all_addresses_of_both_families():
    app, port = web.Application(middlewares=[problem_middleware]), free_port()
    async with serve(app, "::", port) as addresses, aiohttp.ClientSession() as session:
        assert sorted(addresses) == [f"0.0.0.0:{port}", f"[::]:{port}"]
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            assert response.status == 404
