"""What stands around both sides, each as a program of its own, so that its cost is nobody's.

`gateway`, `source`, or a `delay_proxy` that takes its time to one of them.

Prints one line of JSON when it serves.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from aiohttp import web, web_fileresponse

from deploy.local.gateway import Gateway
from tests.chaos.tcp_proxy import TcpProxy


def announce(**told: str) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def gateway(database_url: str, folder: str) -> None:
    async with Gateway(database_url=database_url, storage_dir=Path(folder)) as serving:
        announce(url=serving.url, key=serving.service_role_key)
        await asyncio.Event().wait()


async def source(folder: str) -> None:
    """Serve files as a CDN does: whole, with their length and type."""
    web_fileresponse.CONTENT_TYPES.add_type("image/webp", ".webp")  # which Python knows from 3.13 on
    app = web.Application()
    app.router.add_static("/files", folder)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    announce(url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


async def delay_proxy(url: str, milliseconds: str) -> None:
    """Lead to the server at `url`, which seems to be so many milliseconds away, there and back."""
    wire = TcpProxy(int(url.rpartition(":")[2]))
    wire.delay = int(milliseconds) / 2000
    await wire.start()
    announce(url=f"http://127.0.0.1:{wire.port}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run({"gateway": gateway, "source": source, "line": delay_proxy}[sys.argv[1]](*sys.argv[2:]))
