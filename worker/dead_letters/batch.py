"""Replay or discard a selection of dead letters: each one is acked only after its replacement is stored safely.

The queue is used in rounds of a few seconds, so that others can use it in between, and no delivery becomes as old as
the broker's consumer timeout. Only the dead letters selected beforehand are removed: one that fails again meanwhile has
another key.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

import structlog
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import PublishError

from schemas.dead_letters import BatchOutcome, KeptDeadLetter
from worker.dead_letters.browser import DeadLetterBrowser
from worker.dead_letters.queue_lock import DeadLetterQueue
from worker.dead_letters.summary import DeadLetterSummary, Key, summarize

log = structlog.stdlib.get_logger(__name__)
ROUND_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.4
"""Pause between rounds; longer than LOCK_RETRY_SECONDS, so that a waiting operator gets the lock."""
NEXT_ROUND_WAIT_SECONDS: Final = 60.0
ABORT_POLL_SECONDS: Final = 0.2
MAX_HELD_BYTES: Final = 16 * 1024 * 1024

Progress = Callable[[int, int], None]
"""Called with (dead letters processed, dead letters matched)."""


@dataclass(frozen=True, slots=True)
class UnackedDeadLetter:
    """A dead letter that was delivered to us and is not acked yet."""

    summary: DeadLetterSummary
    message: AbstractIncomingMessage


@dataclass(frozen=True, slots=True)
class Preparation:
    """The messages (routing key, message) to publish before the dead letter is acked; or why it has to be kept."""

    replacements: tuple[tuple[str, Message], ...] = ()
    keep_reason: str | None = None


class BatchAction(Protocol):
    """What is done with the dead letters. `group_size` of them are prepared together."""

    group_size: int

    async def prepare(self, group: Sequence[UnackedDeadLetter]) -> Sequence[Preparation]:
        """Do what has to be done before the ack and can be repeated; return one result for each dead letter."""

    def on_removed(self, summary: DeadLetterSummary) -> None:
        """Called after a dead letter was acked."""


class BatchRun:
    """Applies an action to the selected dead letters."""

    def __init__(
        self,
        queue: DeadLetterQueue,
        selected: Sequence[DeadLetterSummary],
        action: BatchAction,
        *,
        rate: float | None = None,
        should_abort: Callable[[], bool] = lambda: False,
        progress: Progress = lambda _done, _total: None,
    ) -> None:
        self._queue, self._action, self._should_abort, self._progress = queue, action, should_abort, progress
        self._pending: Counter[Key] = Counter(summary.key for summary in selected)
        self._pending_count = len(selected)
        self._matched = len({summary.item.id for summary in selected})
        self._interval = 1 / rate if rate else 0.0
        self._group_size = 1 if rate else action.group_size
        self._next_at = 0.0
        self._done: dict[UUID, frozenset[str]] = {}
        self._kept: dict[UUID, str] = {}
        self._free_bytes, self._memory_full = MAX_HELD_BYTES, False

    async def run(self) -> BatchOutcome:
        """Work until every selected dead letter was removed, was kept, or is gone from the queue.

        Raises:
            BusyError: another operator held the lock.
            BrokerUnavailableError: the connection was lost. No message is lost; `outcome` returns what was done.
            FileProcessingError: the action cannot continue. No message is lost, as above.
        """
        wait_seconds: float | None = None
        while not self._should_abort() and await self._round(wait_seconds):
            wait_seconds = NEXT_ROUND_WAIT_SECONDS
            await self._sleep(max(PAUSE_SECONDS, self._next_at - time.monotonic()))
        return self.outcome()

    def outcome(self) -> BatchOutcome:
        """Return what has been done so far."""
        return BatchOutcome(
            matched=self._matched,
            done=len(self._done),
            kept=tuple(KeptDeadLetter(id=item_id, reason=reason) for item_id, reason in self._kept.items()),
            aborted=self._should_abort() and self._pending_count > 0,
        )

    @property
    def done_ids(self) -> frozenset[UUID]:
        """The ids of the dead letters that were removed."""
        return frozenset(self._done)

    async def _round(self, wait_seconds: float | None) -> bool:
        """Read the queue for ROUND_SECONDS; return whether another round is needed.

        The last round reads the queue to its end even if nothing is pending any more: returned messages go behind
        those that were never delivered (RabbitMQ 3.10.8), so the order is kept only if all were read.
        """
        until, acted, self._memory_full = time.monotonic() + ROUND_SECONDS, False, False
        async with self._queue.open(wait_seconds) as browser, aclosing(browser.windows(self._select)) as windows:
            async for window in windows:
                for group in _groups(window, self._group_size):
                    if acted and max(time.monotonic(), self._next_at) > until:
                        return True
                    await self._sleep(self._next_at - time.monotonic())
                    if self._should_abort():
                        return False
                    await self._process(group, browser)
                    acted = True
                if acted and self._pending_count and (self._memory_full or browser.window_limit_reached):
                    return True
                self._free_bytes = MAX_HELD_BYTES
        return False

    def _select(self, message: AbstractIncomingMessage) -> UnackedDeadLetter | None:
        """Return the message if it is pending. Without free memory, it is left for the next round."""
        if not self._pending_count:
            return None
        summary = summarize(message)
        if self._pending[summary.key] <= 0:
            return None
        if self._free_bytes <= 0:
            self._memory_full = True
            return None
        self._free_bytes -= message.body_size or 0
        return UnackedDeadLetter(summary, message)

    async def _process(self, group: Sequence[UnackedDeadLetter], browser: DeadLetterBrowser) -> None:
        self._next_at = time.monotonic() + self._interval
        for dead_letter, prepared in zip(group, await self._action.prepare(group), strict=True):
            if prepared.replacements and self._should_abort():
                return
            summary = dead_letter.summary
            item_id = summary.item.id
            keep_reason = prepared.keep_reason or await self._publish(summary, prepared, browser)
            if keep_reason is None:
                await browser.ack(dead_letter.message)
                self._done[item_id] = self._done.get(item_id, frozenset()) | summary.source_keys
                self._action.on_removed(summary)
            else:
                self._kept[item_id] = keep_reason
            self._pending[summary.key] -= 1
            self._pending_count -= 1
            self._progress(len(self._done.keys() | self._kept.keys()), self._matched)

    async def _publish(
        self, summary: DeadLetterSummary, prepared: Preparation, browser: DeadLetterBrowser
    ) -> str | None:
        """Publish the replacements, unless the same files were published already. Return why that failed, or None."""
        done = self._done.get(summary.item.id)
        if done is not None and summary.source_keys <= done:
            return None
        for routing_key, message in prepared.replacements:
            try:
                await browser.publish(routing_key, message)
            except PublishError:
                return f"no queue is bound to {routing_key!r}: start a worker of this version, which declares it"
        return None

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but end early if the run is aborted."""
        until = time.monotonic() + seconds
        while not self._should_abort() and (left := until - time.monotonic()) > 0:  # noqa: ASYNC110 - it can only be polled
            await asyncio.sleep(min(left, ABORT_POLL_SECONDS))


def _groups(window: Sequence[UnackedDeadLetter], size: int) -> Iterator[Sequence[UnackedDeadLetter]]:
    for start in range(0, len(window), size):
        yield window[start : start + size]
