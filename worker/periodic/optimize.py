"""Storing better what is stored already: images become what another profile makes of them, duplicates become one.

What is taken in hand is what is stored with another profile than the one wanted, so that a run which was interrupted
goes on where it stopped. Nothing is removed here: an object that no file points at any more is an orphan, and spared
for the grace time, since somebody may hold a link to it.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from handlers.codec.codec import Codec
from handlers.database.client import Supabase
from handlers.database.object_records import ObjectRecords
from handlers.database.task_records import TaskRecords
from handlers.errors import FileCorruptedError, FileProcessingError, StorageUnavailableError
from handlers.media import Prepared
from handlers.pipeline.tempdirs import scratch
from handlers.settings import MediaSettings
from handlers.storage import object_path
from handlers.storage.upload_file import UploadFile
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from schemas.objects import StoredObject, SuboptimalImage

log = structlog.stdlib.get_logger(__name__)
PAGE: Final = 50
MAX_SIZE_RATIO: Final = 0.95
"""A new file must be at most so large, measured by the old one: encoding once more costs quality."""
PROFILE_NAME: Final = re.compile(
    rf"(?P<format>{'|'.join(ImageFormat)})-q(?P<quality>\d+)-(?P<metadata>strip|meta)(?P<provenance>-provenance)?"
)


def read_profile(key: str) -> Profile:
    """Read a profile's name, such as `auto-q85-strip`; raise ValueError."""
    found = PROFILE_NAME.fullmatch(key)
    if found is None:
        raise ValueError(f"{key!r} is no profile; one is called after format, quality and metadata: auto-q85-strip")
    return Profile(
        format=ImageFormat(found["format"]),
        quality=int(found["quality"]),
        strip_metadata=found["metadata"] == "strip",
        keep_provenance=found["provenance"] is not None,
    )


@dataclass(slots=True)
class OptimizeResult:
    """What was done: objects made smaller, become one with another, kept as they are; failures by code; bytes saved."""

    smaller: int = 0
    merged: int = 0
    kept: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    bytes_saved: int = 0

    @property
    def total(self) -> int:
        """How many objects were looked at."""
        return self.smaller + self.merged + self.kept + self.failed.total()


class Optimizer:
    """Makes the images of one bucket what `profile` would make of them, at most `max_concurrent` at once."""

    def __init__(
        self,
        settings: MediaSettings,
        supabase: Supabase,
        objects: ObjectRecords,
        codec: Codec,
        profile: Profile,
    ) -> None:
        self._settings = settings
        self._storage = supabase
        self._records = TaskRecords(settings, supabase)
        self._objects = objects
        self._codec = codec
        self._profile = profile
        self._room = asyncio.Semaphore(settings.max_concurrent)

    async def run(
        self,
        since: datetime | None = None,
        progress: Callable[[int], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> OptimizeResult:
        """Go through what was recorded since, until it ends or `stopped`; tell `progress` how many were looked at.

        An object that cannot be improved now stays as it is and is counted.

        Raises:
            DatabaseUnavailableError: what is next cannot be told; what was done stays done.
        """
        done = OptimizeResult()

        async def one(entry: SuboptimalImage) -> None:
            async with self._room:
                if not stopped():
                    await self._improve(entry, folder, done)
                    progress(done.total)

        async with scratch(self._settings.temp_dir) as folder:
            for only_twins in (False, True):  # what was made anew from two objects of one source may be twins now
                after = None
                while not stopped() and (page := await self._page(since, after)):
                    after = page[-1].path
                    async with asyncio.TaskGroup() as group:
                        for entry in page:
                            if entry.twin is not None or not only_twins:
                                group.create_task(one(entry))
        return done

    async def _page(self, since: datetime | None, after: str | None) -> list[SuboptimalImage]:
        return await self._objects.suboptimal(self._profile.key, since, after, PAGE)

    async def _improve(self, entry: SuboptimalImage, folder: Path, done: OptimizeResult) -> None:
        source, target = folder / entry.sha256, folder / f"{entry.sha256}.new"
        try:
            if entry.twin is not None and await self._storage.exists(entry.twin.path):
                await self._move(entry, StoredObject.model_validate(entry.twin.model_dump()), entry.source_sha256)
                done.merged += 1
                done.bytes_saved += entry.file_size
            elif entry.stale:
                await self._recompress(entry, source, target, done)
            else:
                done.kept += 1
        except FileProcessingError as error:
            log.warning("object not improved", path=entry.path, code=error.code, error=str(error))
            done.failed[error.code] += 1
        finally:
            for path in (source, target):
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _recompress(self, entry: SuboptimalImage, source: Path, target: Path, done: OptimizeResult) -> None:
        await self._storage.fetch(entry.path, source)
        if await asyncio.to_thread(_sha256, source) != entry.sha256:
            raise FileCorruptedError("the object is not what its path says")
        made = await self._codec.prepare(source, target, entry.content_type, self._profile)
        if made.path == source or made.file_size > entry.file_size * MAX_SIZE_RATIO:
            await self._move(entry, self._stored(made, entry.path, entry))
            done.kept += 1
            return
        path = object_path(entry.user_id, made.sha256, made.extension)
        await self._records.claim_object(self._storage.bucket, path, entry.user_id)
        await self._storage.put(path, UploadFile.from_prepared(made))
        await self._move(entry, self._stored(made, path))
        done.smaller += 1
        done.bytes_saved += entry.file_size - made.file_size

    def _stored(self, made: Prepared, path: str, kept: SuboptimalImage | None = None) -> StoredObject:
        """Return what was made, or what was kept instead, as files are to know it."""
        same = kept or made
        return StoredObject(
            path=path,
            sha256=same.sha256,
            file_size=same.file_size,
            content_type=same.content_type,
            width=made.width,
            height=made.height,
            duration=made.duration,
            thumbhash=made.thumbhash,
            profile=self._profile.key,
        )

    async def _move(self, entry: SuboptimalImage, to: StoredObject, source_sha256: str | None = None) -> None:
        more = True
        while more:
            reply = await self._objects.move_object(entry.path, to, source_sha256)
            if reply.state != "moved":
                raise StorageUnavailableError("an object of these bytes is being removed just now")
            more = reply.more


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
