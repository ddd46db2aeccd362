"""Removes orphans: objects in Storage that no file references.

    mark the object `deleting` and commit -> remove it through the Storage API -> delete its row

While an object is marked, no worker stores at its path; a worker that tries retries later. After a crash the marks
remain and the next removal handles them again, but only after ten minutes, so that no two removals work on the same
object. The objects of files in process are not removed, because the grace period is longer than any attempt
(`20261101000010_outlast_objects.sql`).
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
"""Time limit for one batch: much less than the ten minutes for which no other removal handles the marked objects."""


@dataclass(slots=True)
class RemovalResult:
    """The numbers of released files of deleted generations (`files`) and of removed `objects`.

    `complete`: no orphans were left at the end. False: the time was over.
    """

    files: int = 0
    objects: int = 0
    complete: bool = True


class OrphanRemover:
    """Removes objects that no file has referenced for `grace_seconds`, which must exceed the longest attempt."""

    def __init__(self, objects: ObjectRecords, storage: Storage, grace_seconds: int) -> None:
        self._objects = objects
        self._storage = storage
        self._grace = grace_seconds

    async def count(self) -> int:
        """Return the number of orphans now. Raises DatabaseUnavailableError."""
        counts = [await objects.count_orphans(self._grace) for objects, _ in await self._buckets()]
        return sum(count.objects for count in counts)

    async def remove(self, seconds: float) -> RemovalResult:
        """Release the files of deleted generations, then remove orphans. Starts no new batch after `seconds`.

        Raises:
            DatabaseUnavailableError, StorageUnavailableError, StorageRejectedError: some of the orphans may have been
                removed; the next removal continues.
        """
        result, end = RemovalResult(), time.monotonic() + seconds
        more = True
        while more and time.monotonic() < end:
            files, more = await self._objects.release_deleted_generations(self._grace)
            result.files += files
        for objects, storage in await self._buckets():
            while time.monotonic() < end:
                paths = await objects.claim_orphans(self._grace, BATCH)
                if not paths:
                    break
                await _remove_batch(objects, storage, paths)
                result.objects += len(paths)
            else:
                result.complete = False
        if result.files or result.objects:
            log.info("orphans removed", extra={"files": result.files, "objects": result.objects})
        return result

    async def _buckets(self) -> list[tuple[ObjectRecords, Storage]]:
        """Return the records and the storage of each bucket that has recorded objects."""
        names = await self._objects.used_buckets()
        return [(self._objects.in_bucket(name), self._storage.in_bucket(name)) for name in names]


async def _remove_batch(objects: ObjectRecords, storage: Storage, paths: list[str]) -> None:
    try:
        async with asyncio.timeout(REMOVE_SECONDS):
            await storage.remove(paths)
    except TimeoutError:
        raise StorageUnavailableError(f"remove: no answer within {REMOVE_SECONDS} s") from None
    await objects.forget_objects(paths)
