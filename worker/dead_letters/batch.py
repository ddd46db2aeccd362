"""The engine of replay and discard: chosen letters go, each only after what takes its place is safe.

It works in rounds of a few seconds, so that others get their turn at the queue and no delivery grows as old as the
broker's consumer time-out. Only letters chosen beforehand are touched: one that comes back meanwhile has another key.
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
from worker.dead_letters.queue_lock import DeadLetters
from worker.dead_letters.summary import DeadLetterMessage, Key, read

log = structlog.stdlib.get_logger(__name__)
ROUND_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.4
"""Between rounds; longer than a waiting operator sleeps between two knocks."""
LATER_PATIENCE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.2
ROOM_BYTES: Final = 16 * 1024 * 1024

Progress = Callable[[int, int], None]
"""Called with (letters dealt with, letters matched)."""


@dataclass(frozen=True, slots=True)
class Held:
    """A letter with its message, unacked."""

    letter: DeadLetterMessage
    message: AbstractIncomingMessage


@dataclass(frozen=True, slots=True)
class Ready:
    """What must be on a work queue (routing key, message) before the letter may go; or why it has to stay."""

    successors: tuple[tuple[str, Message], ...] = ()
    stays: str | None = None


class BatchAction(Protocol):
    """What is done with letters; `at_once` are prepared together."""

    at_once: int

    async def prepare(self, held: Sequence[Held]) -> Sequence[Ready]:
        """Do what can be done beforehand and repeated without harm; one answer for each letter."""

    def done(self, letter: DeadLetterMessage) -> None:
        """Note that a letter is gone for good."""


class BatchRun:
    """One run over the letters chosen."""

    def __init__(
        self,
        letters: DeadLetters,
        chosen: Sequence[DeadLetterMessage],
        deed: BatchAction,
        *,
        rate: float | None = None,
        abort: Callable[[], bool] = lambda: False,
        progress: Progress = lambda _done, _total: None,
    ) -> None:
        self._letters, self._deed, self._abort, self._progress = letters, deed, abort, progress
        self._left: Counter[Key] = Counter(letter.key for letter in chosen)
        self._open = len(chosen)
        self._matched = len({letter.item.id for letter in chosen})
        self._gap = 1 / rate if rate else 0.0
        self._at_once = 1 if rate else deed.at_once
        self._next = 0.0
        self._done: dict[UUID, frozenset[str]] = {}
        self._kept: dict[UUID, str] = {}
        self._room, self._full = ROOM_BYTES, False

    async def run(self) -> BatchOutcome:
        """Work until every chosen letter is gone, kept, or was taken by somebody else.

        Raises:
            BusyError: others kept the dead letters to themselves.
            BrokerUnavailableError: the broker was lost; nothing is, and `outcome` says what was done.
            FileProcessingError: the deed cannot go on; the same.
        """
        patience: float | None = None
        while not self._abort() and await self._round(patience):
            patience = LATER_PATIENCE_SECONDS
            await self._rest(max(PAUSE_SECONDS, self._next - time.monotonic()))
        return self.outcome()

    def outcome(self) -> BatchOutcome:
        """Say what has been done so far."""
        return BatchOutcome(
            matched=self._matched,
            done=len(self._done),
            kept=tuple(KeptDeadLetter(id=name, reason=reason) for name, reason in self._kept.items()),
            aborted=self._abort() and self._open > 0,
        )

    async def _round(self, patience: float | None) -> bool:
        """Have the queue for a few seconds; say whether another round is needed.

        The last round reads on to the end even when all is done: what goes back to a quorum queue goes behind what was
        not taken (3.10.8), so only who takes everything leaves the order as it was.
        """
        until, acted, self._full = time.monotonic() + ROUND_SECONDS, False, False
        async with self._letters.open(patience) as pile, aclosing(pile.windows(self._hold)) as windows:
            async for window in windows:
                for group in _cut(window, self._at_once):
                    if acted and max(time.monotonic(), self._next) > until:
                        return True
                    await self._rest(self._next - time.monotonic())
                    if self._abort():
                        return False
                    await self._deal_with(group, pile)
                    acted = True
                if acted and self._open and (self._full or pile.exhausted):
                    return True
                self._room = ROOM_BYTES
        return False

    def _hold(self, message: AbstractIncomingMessage) -> Held | None:
        """Keep the message when it is one of those chosen; what finds no room waits for the next round."""
        if not self._open:
            return None
        letter = read(message)
        if self._left[letter.key] <= 0:
            return None
        if self._room <= 0:
            self._full = True
            return None
        self._room -= message.body_size or 0
        return Held(letter, message)

    async def _deal_with(self, group: Sequence[Held], pile: DeadLetterBrowser) -> None:
        self._next = time.monotonic() + self._gap
        for held, ready in zip(group, await self._deed.prepare(group), strict=True):
            if ready.successors and self._abort():
                return
            name = held.letter.item.id
            reason = ready.stays or await self._publish(held.letter, ready, pile)
            if reason is None:
                await pile.ack(held.message)
                self._done[name] = self._done.get(name, frozenset()) | held.letter.source_keys
                self._deed.done(held.letter)
            else:
                self._kept[name] = reason
            self._left[held.letter.key] -= 1
            self._open -= 1
            self._progress(len(self._done.keys() | self._kept.keys()), self._matched)

    async def _publish(self, letter: DeadLetterMessage, ready: Ready, pile: DeadLetterBrowser) -> str | None:
        """Publish what takes the letter's place, unless an equal one was published already; say why that cannot be."""
        done = self._done.get(letter.item.id)
        if done is not None and letter.source_keys <= done:
            return None
        for routing_key, message in ready.successors:
            try:
                await pile.publish(routing_key, message)
            except PublishError:
                return f"no queue takes {routing_key!r}: start a worker of this version, which declares the queues"
        return None

    async def _rest(self, seconds: float) -> None:
        """Wait, but not longer than until somebody aborts."""
        until = time.monotonic() + seconds
        while not self._abort() and (left := until - time.monotonic()) > 0:  # noqa: ASYNC110 - `abort` can only be asked
            await asyncio.sleep(min(left, LOOK_SECONDS))


def _cut(held: Sequence[Held], size: int) -> Iterator[Sequence[Held]]:
    for at in range(0, len(held), size):
        yield held[at : at + size]
