"""A webhook proxy that drops some events, duplicates some, and never retries."""

import asyncio
import json
import random
from collections import Counter

import aiohttp
from aiohttp import web

TAKEN = {200, 202}
AGAIN_SECONDS = 1.0
LIMIT_SECONDS = 1.0
"""The default timeout of pg_net."""


class LossyWebhooks:
    """Forwards webhooks unchanged to `target`. `counts` has events, dropped, twice, taken and refused ones."""

    def __init__(self, target: str, seed: int, *, dropped: float, twice: float) -> None:
        self.counts: Counter[str] = Counter()
        self.url = ""
        self._target = target
        self._seed = seed
        self._dropped = dropped
        self._twice = twice
        self._later: set[asyncio.Task] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_post("/webhooks/supabase", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/webhooks/supabase"

    async def stop(self) -> None:
        """Stop; pending duplicates are not sent."""
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        name = json.loads(body)["outlast"]["generation_id"]
        draw = random.Random(f"{self._seed} {name}").random()  # noqa: S311 - reproducible, not for security
        self.counts["events"] += 1
        if draw < self._dropped:
            self.counts["dropped"] += 1
            return web.Response(status=202)
        headers = {key: value for key, value in request.headers.items() if key.lower() != "host"}
        if draw < self._dropped + self._twice:
            self.counts["twice"] += 1
            task = asyncio.create_task(self._again(body, headers))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
        return web.Response(status=await self._forward(body, headers))

    async def _again(self, body: bytes, headers: dict[str, str]) -> None:
        await asyncio.sleep(AGAIN_SECONDS)
        await self._forward(body, headers)

    async def _forward(self, body: bytes, headers: dict[str, str]) -> int:
        """Send the event once; any response, or none, is final."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_SECONDS)) as session,
                session.post(self._target, data=body, headers=headers) as response,
            ):
                self.counts["taken" if response.status in TAKEN else f"refused {response.status}"] += 1
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.counts["receiver away"] += 1
            return 503
