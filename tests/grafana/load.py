"""Load and faults, so that every panel has something to show."""

import asyncio
import contextlib
import math
import time
from uuid import uuid4

import aiohttp
import psutil

from deploy.local.project import Project
from deploy.local.stack import Stack

FAULTS = (
    "status=404",
    "status=503",
    "truncate=1000",
    "fail_first=1",
    "wrong_type=text/html",
)


class Load:
    """Generations at a rate that rises and falls, with something wrong in some of them."""

    def __init__(self, stack: Stack, project: Project, session: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._project = project
        self._session = session
        self._users = [str(uuid4()) for _ in range(8)]

    async def run(self, seconds: float, rate: float = 4) -> None:
        """Send about `rate` generations a second; stop after so many seconds."""
        started, number = time.monotonic(), 0
        while (passed := time.monotonic() - started) < seconds:
            await self._generation(number)
            number += 1
            if number % 6 == 0:
                await self._stranger()
            if number % 40 == 20:
                await self._replay()
            if number % 12 == 10:
                await self._kill_codecs()
            await asyncio.sleep(1 / (rate * (1.1 + math.sin(passed / seconds * 4 * math.pi))))
        await self._replay()

    async def _generation(self, number: int) -> None:
        samples, source = self._stack.samples, self._stack.source
        name = samples[number % len(samples)].name
        query = f"?n={number}&{FAULTS[number // 5 % len(FAULTS)]}" if number % 5 == 0 else ""
        urls = [f"{source.url}/files/{name}{query}", source.file_url(samples[(number * 3 + 1) % len(samples)].name)]
        if number % 12 == 1:
            urls.append("https://example.com/not-listed.png")
        output = {"images": [{"url": url} for url in urls]}
        user = str(uuid4()) if number % 3 else self._users[number % 8]  # who comes again has some of the files already
        row = {"id": str(uuid4()), "user_id": user, "status": "processing", "output": None}
        await self._project.insert("generations", row)
        await self._project.update("generations", f"id=eq.{row['id']}", {"status": "completed", "output": output})

    async def _stranger(self) -> None:
        """Send a webhook with a wrong secret, and one of FAL's with a wrong signature."""
        for source in ("supabase", "fal"):
            url, headers = f"{self._stack.receiver_url}/webhooks/{source}", {"x-webhook-secret": "guessed"}
            async with self._session.post(url, json={}, headers=headers) as response:
                await response.read()

    async def _replay(self) -> None:
        headers = {"Authorization": f"Bearer {self._stack.endpoints.api_token}"}
        url = f"{self._stack.receiver_url}/dead-letters/replay"
        wanted = {"code": "source_forbidden", "rate": 50, "dry_run": False}
        async with self._session.post(url, json=wanted, headers=headers) as response:
            await response.read()

    async def _kill_codecs(self) -> None:
        """Kill a worker's codec processes for a second; those at work end as one with a bad decoder would."""
        worker = psutil.Process(self._stack.workers[0].process.pid)
        for _ in range(5):
            for child in worker.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
            await asyncio.sleep(0.2)


async def drive(stack: Stack, seconds: float, rate: float = 4) -> None:
    """Run the load against a stack."""
    async with Project(stack.endpoints) as project, aiohttp.ClientSession() as session:
        await Load(stack, project, session).run(seconds, rate)
