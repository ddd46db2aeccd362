"""The shared servers, each as a separate program, so that no side is charged for its CPU.

`gateway`, `source`, or a `delay_proxy` in front of one of them. Each prints one line of JSON when it is ready.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from aiohttp import web, web_fileresponse

from deploy.local.gateway import Gateway
from tests.chaos.tcp_proxy import TcpProxy


def announce(**fields: str) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def gateway(database_url: str, folder: str) -> None:
    async with Gateway(database_url=database_url, storage_dir=Path(folder)) as serving:
        announce(url=serving.url, key=serving.service_role_key)
        await asyncio.Event().wait()


async def source(folder: str) -> None:
    """Serve files as a CDN does: with their length and content type."""
    web_fileresponse.CONTENT_TYPES.add_type("image/webp", ".webp")  # Python knows this type only since 3.13
    app = web.Application()
    app.router.add_static("/files", folder)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    announce(url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


async def delay_proxy(url: str, milliseconds: str) -> None:
    """Forward to the server at `url` with an added round-trip time."""
    wire = TcpProxy(int(url.rpartition(":")[2]))
    wire.delay = int(milliseconds) / 2000
    await wire.start()
    announce(url=f"http://127.0.0.1:{wire.port}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run({"gateway": gateway, "source": source, "delay_proxy": delay_proxy}[sys.argv[1]](*sys.argv[2:]))
