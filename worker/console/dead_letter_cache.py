"""The list of dead letters as last read, so that a page need not wait while a replay uses the queue."""

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from schemas.dead_letters import DeadLetter, DeadLetterFilter
from worker.broker.connection import Broker
from worker.broker.errors import BROKER_ERRORS, translate_broker_errors
from worker.broker.topology import DEAD
from worker.dead_letters.service import DeadLetterService
from worker.dead_letters.summary import merge_items
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
WAIT_SECONDS: Final = 1.5
WAIT_WHILE_BUSY_SECONDS: Final = 0.05
MAX_AGE_SECONDS: Final = 10.0
LIVE_SECONDS: Final = 3.0
LIVE_MAX_AGE_SECONDS: Final = 60.0
COUNT_SECONDS: Final = 1.0
INTERVALS: Final = 24
REPLAY_PROBLEMS: Final = {
    "corrupted": "the source file is damaged, so it fails again unless the source has replaced it",
    "type_not_supported": "this file type is not supported, so it fails again",
    "size_exceeded": "the file is too large: raise MAX_FILE_SIZE_MB first",
    "decoder_limit": "the image is too large to decode: raise MAX_IMAGE_PIXELS first",
    "storage_rejected": "Storage refuses the file: correct what the bucket allows, or its name, first",
    "row_rejected": "the generation's row, or a trigger on its table, refuses the media: correct that first",
    "too_many_files": "the output has more files than MAX_EVENT_FILES: raise it, and fetch the generation again",
    "output_too_large": "the output is too large to be read, so it fails again",
    "row_unreadable": "the generation's row cannot be read, so it fails again until the row is corrected",
    "worker_killed": "it ended its worker each time: check the workers' memory and logs first",
    "source_forbidden": "the host is not allowed: add it to SOURCE_ALLOWLIST first",
    "undecodable": "this version cannot decode the message",
    "newer_version": "a newer version published the message: update the workers first",
}


class DeadLetterCache:
    """The items as last read. They are read again if their number has changed or they are older than ten seconds.

    Reading ten thousand messages takes about a second, and other operators wait meanwhile. Counting is cheap.
    """

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self._service, self._broker = DeadLetterService(settings, "console"), broker
        self._can_refresh = settings.fal_key is not None
        self._items: list[DeadLetter] = []
        self._count = 0
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._was_complete = False  # when the reading began

    async def items(self, *, busy: bool, live: bool = False) -> tuple[list[DeadLetter], float]:
        """Return all items, oldest failure first, and the age of the list in seconds.

        With `busy` (an operation is running), the cached list is returned without waiting. So is a list with as many
        messages as the queue, until it is LIVE_MAX_AGE_SECONDS old. With `live` (a page is being watched), a list that
        may be read again after LIVE_SECONDS only is good enough.
        Raises BusyError or BrokerUnavailableError if the list was never read.
        """
        if live and self._read_at is not None and time.monotonic() - self._read_at < LIVE_SECONDS:
            return self._items, time.monotonic() - self._read_at
        age = math.inf if self._read_at is None else time.monotonic() - self._read_at
        complete = age < LIVE_MAX_AGE_SECONDS and await self._is_complete()
        if complete and (live or age < MAX_AGE_SECONDS):
            return self._items, 0.0
        if self._reading is None or self._reading.done():
            self._was_complete = complete
            self._reading = asyncio.create_task(self._read(), name="dead letters")
            self._reading.add_done_callback(_log_error)
        timeout = None if self._read_at is None else WAIT_WHILE_BUSY_SECONDS if busy or complete else WAIT_SECONDS
        done, _ = await asyncio.wait([self._reading], timeout=timeout)
        if done and self._read_at is None:
            self._reading.result()
        return self._items, 0.0 if complete else time.monotonic() - (self._read_at or 0.0)

    async def _read(self) -> None:
        summaries = await self._service.find(DeadLetterFilter())
        self._items, self._count, self._read_at = merge_items(summaries), len(summaries), time.monotonic()

    async def _is_complete(self) -> bool:
        """Whether the queue has as many messages as when the list was read. Messages in reading are not counted."""
        if self._reading is not None and not self._reading.done():
            return self._was_complete
        try:
            with translate_broker_errors():
                async with asyncio.timeout(COUNT_SECONDS):
                    return await self._count_waiting() == self._count
        except BROKER_ERRORS:
            return False

    async def _count_waiting(self) -> int | None:
        channel = await self._broker.channel()
        try:
            return (await channel.declare_queue(DEAD, passive=True)).declaration_result.message_count
        finally:
            await channel.close()

    def replay_problem(self, code: str) -> str | None:
        """Return why a replay of dead letters with this code is expected to fail; None if it may succeed."""
        if code == "source_gone" and not self._can_refresh:
            return "the source deleted the file, and without FAL_KEY no new link can be requested"
        return REPLAY_PROBLEMS.get(code)


def _log_error(reading: asyncio.Task[None]) -> None:
    """Log the error of a read that no request waits for any more."""
    if not reading.cancelled() and (error := reading.exception()) is not None:
        log.warning("dead letters not read", reason=str(error) or type(error).__name__)


@dataclass(frozen=True, slots=True)
class FailureTimeline:
    """Failures per group in equal intervals from `first` to `last`."""

    first: datetime | None
    last: datetime | None
    counts: dict[str, list[int]]


def failure_timeline(failures: Iterable[tuple[str, datetime | None]]) -> FailureTimeline:
    """Count the failures of each group. `failures` has pairs of group and time; all groups share the intervals."""
    known = [(group, at) for group, at in failures if at is not None]
    first = min((at for _, at in known), default=None)
    last = max((at for _, at in known), default=None)
    counts: dict[str, list[int]] = {}
    for group, at in known:
        span = max((last - first).total_seconds(), 1.0) if first and last else 1.0
        index = int((at - first).total_seconds() / span * INTERVALS) if first else 0
        counts.setdefault(group, [0] * INTERVALS)[min(INTERVALS - 1, index)] += 1
    return FailureTimeline(first, last, counts)
