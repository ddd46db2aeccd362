"""What lies among the dead letters, as last seen: a page must not wait for a replay that has its turn at the queue."""

import asyncio
import time
from datetime import datetime
from typing import Final

from schemas.dead_letters import Choice, DeadLetter
from worker.dead.desk import Desk
from worker.dead.letters import united
from worker.settings import Settings

PATIENCE_SECONDS: Final = 1.5
BARS: Final = 24
REMEDIES: Final = {
    "corrupted": "the file is broken at its source: it fails again unless it was put out anew",
    "type_not_supported": "its type is not taken: it fails again",
    "size_exceeded": "it is too large: raise MAX_FILE_SIZE_MB first",
    "decoder_limit": "it takes too much to decode: raise MAX_IMAGE_PIXELS first",
    "source_forbidden": "its host is not allowed: add it to SOURCE_ALLOWLIST first",
    "undecodable": "this version cannot read it",
    "newer_version": "a newer version wrote it: update the workers first",
}


class Snapshot:
    """The items, at most a moment old; older, with its age, while somebody else is at the queue."""

    def __init__(self, settings: Settings) -> None:
        self._desk = Desk(settings, "console")
        self._can_refresh = settings.fal_key is not None
        self._items: list[DeadLetter] = []
        self._taken: float | None = None
        self._taking: asyncio.Task[None] | None = None

    async def items(self) -> tuple[list[DeadLetter], float]:
        """Return all items, the oldest failure first, and how old the list is in seconds.

        Raises BusyError or BrokerUnavailableError when none was ever read.
        """
        if self._taking is None or self._taking.done():
            self._taking = asyncio.create_task(self._take(), name="dead letters")
        done, _ = await asyncio.wait([self._taking], timeout=PATIENCE_SECONDS if self._taken else None)
        if done and (self._taken is None or self._taking.exception() is not None):
            self._taking.result()
        return self._items, time.monotonic() - (self._taken or 0.0)

    async def _take(self) -> None:
        items = united(await self._desk.find(Choice()))
        self._items, self._taken = items, time.monotonic()

    def trouble(self, code: str) -> str | None:
        """Say why a letter with this code fails again as things are; None when it may succeed."""
        if code == "source_gone" and not self._can_refresh:
            return "its source is gone, and without FAL_KEY nobody can be asked for it again"
        return REMEDIES.get(code)


def bars(times: list[datetime]) -> list[int]:
    """Count times in equal slices from the first to the last."""
    counts = [0] * BARS
    if times:
        first = min(times)
        span = max((max(times) - first).total_seconds(), 1.0)
        for one in times:
            counts[min(BARS - 1, int((one - first).total_seconds() / span * BARS))] += 1
    return counts
