"""The minimal webhook receiver: an aiohttp handler that parses JSON and publishes it, confirmed, with plain aiormq.

`python -m tests.benchmarks.bare_receiver RABBITMQ_URL PORT`
"""

import asyncio
import json
import sys

import aiormq
import uvloop
from aiohttp import web


async def main(url: str, port: int) -> None:
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    await channel.queue_declare("bare", durable=True, arguments={"x-queue-type": "quorum"})
    properties = aiormq.spec.Basic.Properties(delivery_mode=2, content_type="application/json")

    async def take(request: web.Request) -> web.Response:
        body = await request.json()
        await channel.basic_publish(
            json.dumps(body["record"]).encode(), routing_key="bare", properties=properties, mandatory=True
        )
        return web.json_response({"task_ids": [body["record"]["id"]]}, status=202)

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/webhook", take), web.get("/ready", ready)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
