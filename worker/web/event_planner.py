"""Parses a verified webhook and plans its jobs. Those that take long are planned in a thread, one at a time.

Planning is limited (`handlers/sources/outputs.py`), but takes up to a second for the largest event, and some 0.4 s for
16 KiB of URLs. In a thread it lets the event loop run in between, so that other webhooks are answered meanwhile. Events
of a usual size take turns by user. Large ones do not, because they would have to be parsed before to know the user.
"""

import asyncio
import itertools
import re
from typing import Final

from handlers.download.allowlist import Allowlist
from handlers.sources import WebhookSource
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration, IgnoredWebhook
from schemas.jobs import Job
from worker.settings import Settings
from worker.web.turns import Turns

LARGE_BYTES: Final = 16 * 1024
"""Such a body is parsed in a thread. A smaller one takes at most some milliseconds."""
MAX_URLS: Final = 20
"""A small body with so many URLs at most is planned at once. Each takes up to half a millisecond."""
MAY_BE_URL: Final = re.compile(rb"(?:https?)?:\\?/|http|data:|\\u", re.IGNORECASE)
"""What each URL in a JSON text contains. An escaped character may be any."""
Plan = tuple[CompletedGeneration | IgnoredWebhook, tuple[Job, ...]]


class EventPlanner:
    """Plans the events of a receiver."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._allowlist = Allowlist(settings.source_allowlist)
        self._large = asyncio.Lock()
        self._turns = Turns()

    async def plan(self, source: WebhookSource, body: bytes) -> Plan:
        """Return the event of a verified body, and its jobs.

        Raises:
            UnreadableError: the body cannot be parsed.
        """
        if len(body) >= LARGE_BYTES:
            async with self._large:
                return await asyncio.to_thread(self._plan, source, body)
        if has_few_urls(body):
            return self._plan(source, body)
        user_id = _user_of(source.parse(body))  # and parsed again later, so that what waits takes no memory
        async with self._turns.of(user_id):
            return await asyncio.to_thread(self._plan, source, body)

    def _plan(self, source: WebhookSource, body: bytes) -> Plan:
        event = source.parse(body)
        if isinstance(event, IgnoredWebhook):
            return event, ()
        return event, plan_jobs(event, self._settings, self._allowlist)


def has_few_urls(body: bytes) -> bool:
    """Return whether a JSON text has at most MAX_URLS URLs. Reads it only as far as needed."""
    return sum(1 for _ in itertools.islice(MAY_BE_URL.finditer(body), MAX_URLS + 1)) <= MAX_URLS


def _user_of(event: CompletedGeneration | IgnoredWebhook) -> str | None:
    return None if isinstance(event, IgnoredWebhook) else event.user_id
