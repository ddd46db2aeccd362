"""Inserts completed generations at a constant rate, as an app does, also during outages."""

import asyncio
import time
from collections.abc import Sequence

import aiohttp

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.generation_plan import Generation

CREATED, CONFLICT = 201, 409


class GenerationInserter:
    """Inserts rows over REST and retries until each is inserted. `inserted` counts them."""

    def __init__(self, environment: ChaosEnvironment) -> None:
        self.inserted = 0
        self._environment = environment

    async def run(self, generations: Sequence[Generation], seconds: float, started: float) -> None:
        """Insert all rows, evenly over `seconds`; rows that became due during an outage follow at once."""
        async with self._environment.app() as session:
            for number, generation in enumerate(generations):
                due = started + seconds * number / len(generations)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                while not await self._insert(session, generation):
                    await asyncio.sleep(0.5)
                self.inserted += 1

    async def _insert(self, session: aiohttp.ClientSession, generation: Generation) -> bool:
        url = f"{self._environment.gateway.url}/rest/v1/generations"
        try:
            async with session.post(url, json=generation.row()) as response:
                # Conflict: an earlier request succeeded and only its response was lost.
                return response.status in {CREATED, CONFLICT}
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
