"""Parses a verified webhook and plans its jobs. Large ones are planned in a thread, one at a time.

Planning is limited (`handlers/sources/outputs.py`), but takes up to a second for the largest event. In a thread it lets
the event loop run in between, so that other webhooks are answered meanwhile.
"""

import asyncio
from typing import Final

from handlers.download.allowlist import Allowlist
from handlers.sources import WebhookSource
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration, IgnoredWebhook
from schemas.jobs import Job
from worker.settings import Settings

LARGE_BYTES: Final = 16 * 1024
"""A smaller body is planned at once. It takes at most some milliseconds."""
Plan = tuple[CompletedGeneration | IgnoredWebhook, tuple[Job, ...]]


class EventPlanner:
    """Plans the events of a receiver."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._allowlist = Allowlist(settings.source_allowlist)
        self._large = asyncio.Lock()

    async def plan(self, source: WebhookSource, body: bytes) -> Plan:
        """Return the event of a verified body, and its jobs.

        Raises:
            UnreadableError: the body cannot be parsed.
        """
        if len(body) < LARGE_BYTES:
            return self._plan(source, body)
        async with self._large:
            return await asyncio.to_thread(self._plan, source, body)

    def _plan(self, source: WebhookSource, body: bytes) -> Plan:
        event = source.parse(body)
        if isinstance(event, IgnoredWebhook):
            return event, ()
        return event, plan_jobs(event, self._settings, self._allowlist)
