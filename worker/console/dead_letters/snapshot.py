"""The dead letters as last read, and how old and complete the list is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from schemas.dead_letters import DeadLetter

LIVE_SECONDS: Final = 3.0
"""How old the list of a page that is being watched may be before it is read again."""


@dataclass(frozen=True, slots=True)
class DeadLetterSnapshot:
    """The dead letters as last read.

    `items` has one item per id, oldest failure first; `messages` has one for each message. `began_at` is when the
    reading began, None if the queue was never read; `age` is the time since it ended, in seconds.
    """

    items: Sequence[DeadLetter] = ()
    messages: Sequence[DeadLetter] = ()
    began_at: datetime | None = None
    age: float = math.inf
    complete: bool = False
    """Whether the queue has as many messages as the list."""
    progress: tuple[int, int] | None = None
    """The numbers of messages that were read, and that are to be read, while the queue is being read."""
    problem: str = ""
    """Why the last reading failed."""

    @property
    def known(self) -> bool:
        """Whether the queue was ever read."""
        return self.began_at is not None

    @property
    def current(self) -> bool:
        """Whether the list is complete, or was read less than LIVE_SECONDS ago."""
        return self.complete or self.age < LIVE_SECONDS
