"""Load with some failures, so that every dashboard panel has data."""

import asyncio
import contextlib
import math
import time
from uuid import uuid4

import psutil

from tests.metrics.monitored_stack import MonitoredStack

FAULTS = (
    "status=410",
    "status=503",
    "truncate=1000",
    "fail_first=1",
    "wrong_type=text/html",
)
WAVE_SECONDS = 20


class GenerationLoad:
    """Generations at a rate that rises and falls, with occasional replays and unauthenticated webhooks."""

    def __init__(self, run: MonitoredStack) -> None:
        self._run = run
        self._users = [str(uuid4()) for _ in range(8)]

    async def send_until_cancelled(self, rate: float) -> None:
        """Send about `rate` generations a second, until cancelled."""
        started, number = time.monotonic(), 0
        while True:
            await self.generation(number)
            number += 1
            if number % 2 == 0:
                await self._send_unauthenticated()
            if number % 30 == 20:
                await self.replay()
            wave = 1.1 + math.sin((time.monotonic() - started) / WAVE_SECONDS * 2 * math.pi)
            await asyncio.sleep(1 / (rate * wave))

    async def generation(self, number: int) -> None:
        """Complete a generation, as an app may do."""
        samples, source = self._run.stack.samples, self._run.stack.source
        name = samples[number % len(samples)].name
        query = f"?n={number}&{FAULTS[number // 5 % len(FAULTS)]}" if number % 5 == 0 else ""
        urls = [f"{source.url}/files/{name}{query}", source.file_url(samples[(number * 3 + 1) % len(samples)].name)]
        if number % 8 == 1:
            urls.append("https://example.com/not-listed.png")
        output = {"images": [{"url": url} for url in urls]}
        user = str(uuid4()) if number % 3 else self._users[number % 8]
        row = {"id": str(uuid4()), "user_id": user, "status": "processing", "output": None}
        await self._run.project.insert("generations", row)
        await self._run.project.update("generations", f"id=eq.{row['id']}", {"status": "completed", "output": output})

    async def _send_unauthenticated(self) -> None:
        """Send a Supabase webhook with a wrong secret and a FAL webhook with a wrong signature."""
        for source in ("supabase", "fal"):
            url, headers = f"{self._run.stack.receiver_url}/webhooks/{source}", {"x-webhook-secret": "guessed"}
            async with self._run.session.post(url, json={}, headers=headers) as response:
                await response.read()

    async def replay(self) -> None:
        """Replay forbidden sources, which fail again."""
        headers = {"Authorization": f"Bearer {self._run.stack.endpoints.api_token}"}
        url = f"{self._run.stack.receiver_url}/dead-letters/replay"
        wanted = {"code": "source_forbidden", "rate": 50, "dry_run": False}
        async with self._run.session.post(url, json=wanted, headers=headers) as response:
            await response.read()


async def kill_codecs(worker_pid: int) -> None:
    """Kill a worker's codec processes for half a second; busy ones end as after a decoder crash."""
    worker = psutil.Process(worker_pid)
    for _ in range(5):
        for child in worker.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        await asyncio.sleep(0.1)
