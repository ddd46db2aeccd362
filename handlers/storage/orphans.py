"""Removing objects that nothing points at, so that none ever goes that is needed.

    mark `deleting`, committed -> remove through the Storage API -> forget the row

While the mark stands nobody stores under that path, and those who try come again later. A crash in between leaves
marks, which the next removal takes up; ten minutes must pass first, so that two removals are never at the same object.
What makes this safe for files at work is the grace time, which is longer than any attempt: see the migration.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from handlers.database.object_records import ObjectRecords
from handlers.errors import StorageUnavailableError
from handlers.storage import Storage

log = logging.getLogger("async_file_processor.orphans")
BATCH: Final = 100
REMOVE_SECONDS: Final = 240
"""Longest time for one batch in Storage: well within the ten minutes in which it is nobody else's."""


@dataclass(slots=True)
class RemovalResult:
    """What a removal did: files of deleted generations let go, objects removed. `complete`: nothing is left to do."""

    files: int = 0
    objects: int = 0
    complete: bool = True


class OrphanRemover:
    """Removes what nothing has pointed at for `grace_seconds`, which must be longer than any attempt at a job."""

    def __init__(self, objects: ObjectRecords, storage: Storage, grace_seconds: int) -> None:
        self._objects = objects
        self._storage = storage
        self._grace = grace_seconds

    async def count(self) -> int:
        """Return how many objects a removal would take. Raises DatabaseUnavailableError."""
        return (await self._objects.count_orphans(self._grace)).objects

    async def remove(self, seconds: float) -> RemovalResult:
        """Let go of files whose generation was deleted, then remove orphans; begin nothing new after so many seconds.

        Raises:
            DatabaseUnavailableError, StorageUnavailableError: what was done stays done, the next removal does the rest.
        """
        done, end = RemovalResult(), time.monotonic() + seconds
        more = True
        while more and time.monotonic() < end:
            files, more = await self._objects.release_deleted_generations(self._grace)
            done.files += files
        while time.monotonic() < end:
            paths = await self._objects.claim_orphans(self._grace, BATCH)
            if not paths:
                break
            await self._remove(paths)
            done.objects += len(paths)
        else:
            done.complete = False
        if done.files or done.objects:
            log.info("orphans removed", extra={"files": done.files, "objects": done.objects})
        return done

    async def _remove(self, paths: list[str]) -> None:
        try:
            async with asyncio.timeout(REMOVE_SECONDS):
                await self._storage.remove(paths)
        except TimeoutError:
            raise StorageUnavailableError(f"remove: no answer within {REMOVE_SECONDS} s") from None
        await self._objects.forget_objects(paths)
