"""Parses a verified webhook and plans its jobs. Those that take long are planned in a thread, one at a time.

Planning is limited (`handlers/sources/outputs.py`), but takes up to a second for the largest event, and some 0.4 s for
16 KiB of URLs. In a thread it lets the event loop run in between, so that other webhooks are answered meanwhile. Users
take turns. To know the user, an event is parsed before it waits for its turn, and again when it is planned, so that
what waits takes no memory.
"""

import asyncio
import itertools
import re
from typing import Final

from handlers.download.allowlist import Allowlist
from handlers.sources import WebhookSource
from handlers.sources.fal_results import result_only_jobs
from handlers.sources.plan import plan_jobs
from handlers.turns import FIRST, Turns
from schemas.events import CompletedGeneration, IgnoredWebhook
from schemas.jobs import Job, NamedGeneration
from worker.settings import Settings

LARGE_BYTES: Final = 16 * 1024
"""A body of this size or more is parsed in a thread, which takes up to 0.1 s; a smaller one takes some milliseconds."""
MAX_URLS: Final = 20
"""A smaller body with at most this many URLs is planned at once. Each URL takes up to half a millisecond."""
MAY_BE_URL: Final = re.compile(rb"(?:https?)?:\\?/|http|data:|\\u", re.IGNORECASE)
"""Matches in every URL in a JSON text. An escape (`\\u...`) may stand for any character, so it matches too."""
PARTS_OF_URLS: Final = (b":/", b":\\/", b"http", b"data:", b"\\u")
"""Each match of MAY_BE_URL contains one of these, in lower case. Counting these is ten times as fast."""
Plan = tuple[CompletedGeneration | IgnoredWebhook, tuple[Job, ...]]


class EventPlanner:
    """Plans the jobs of the events that a receiver gets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._allowlist = Allowlist(settings.source_allowlist)
        self._turns = Turns(1)

    async def plan(self, source: WebhookSource, body: bytes, named: NamedGeneration | None = None) -> Plan:
        """Return the event of a verified body, without its output, and its jobs.

        `named` is the generation that the query of the webhook's address names.

        Raises:
            UnreadableError: the body cannot be parsed.
        """
        if len(body) >= LARGE_BYTES:
            async with self._turns.take(FIRST):
                user_id = await asyncio.to_thread(_user_of, source, body)
        elif has_few_urls(body):
            return self._plan(source, body, named)
        else:
            user_id = _user_of(source, body)
        async with self._turns.take(user_id):
            return await asyncio.to_thread(self._plan, source, body, named)

    def _plan(self, source: WebhookSource, body: bytes, named: NamedGeneration | None) -> Plan:
        event = source.parse(body)
        if isinstance(event, IgnoredWebhook):
            return event, result_only_jobs(event, named, self._settings)
        event = event if named is None else event.model_copy(update={"named": named})
        jobs = plan_jobs(event, self._settings, self._allowlist)
        if not jobs and source.name == "fal":
            jobs = result_only_jobs(event, named, self._settings)
        return event.model_copy(update={"output": None}), jobs  # an output may take 30 times the memory of the body


def has_few_urls(body: bytes) -> bool:
    """Return whether a JSON text has certainly at most MAX_URLS URLs. Other text may count as a URL."""
    text = body.lower()
    if sum(map(text.count, PARTS_OF_URLS)) <= MAX_URLS:
        return True
    return sum(1 for _ in itertools.islice(MAY_BE_URL.finditer(body), MAX_URLS + 1)) <= MAX_URLS


def _user_of(source: WebhookSource, body: bytes) -> str | None:
    event = source.parse(body)
    return None if isinstance(event, IgnoredWebhook) else event.user_id
