"""The disk space of files in process: each file takes its part of TEMP_DISK_MB before its content is received."""

from typing import Final

from handlers.turns import Turns

COPIES_PER_SOURCE: Final = 2
"""The source and the compressed file, which is smaller."""
VARIANT_BYTES: Final = 4 * 1024 * 1024
"""Space for the variants of a picture, and for the poster of a video, in bytes."""


class DiskSpace:
    """The disk space that one source file and the files made from it take, until `release`. `turns` counts bytes."""

    def __init__(self, turns: Turns, user: str | None) -> None:
        self.user = user
        self._turns = turns
        self._taken = 0

    def reserve_now(self, source_bytes: int) -> bool:
        """Reserve as `reserve` does, if there is space now; return whether there is. If not, no space is held."""
        needed = self._needed(source_bytes)
        if needed > self._taken:
            self.release()
            self._taken = self._turns.acquire_now(self.user, needed)
        return self._taken >= needed

    async def reserve(self, source_bytes: int) -> None:
        """Wait until there is space for a source of this size and for what is made of it.

        A smaller reservation is given back first: two files that each hold some space and wait for more could wait for
        each other for ever. For the same reason, do not wait here while holding a connection.
        """
        if not self.reserve_now(source_bytes):
            self._taken = await self._turns.acquire(self.user, self._needed(source_bytes))

    def _needed(self, source_bytes: int) -> int:
        """Return the space, in bytes, for a source of this size: at most the whole capacity."""
        return min(COPIES_PER_SOURCE * source_bytes + VARIANT_BYTES, self._turns.capacity)

    def release(self) -> None:
        """Give the space back. Call it when the files have been removed."""
        taken, self._taken = self._taken, 0
        if taken:
            self._turns.release(self.user, taken)
