"""Re-compresses stored images with another profile, and replaces duplicate objects by one object.

It processes the images that are stored with another profile than the requested one, so that an interrupted run
continues where it stopped. It removes nothing: an object that no file refers to any more is an orphan, which is kept
for ORPHAN_GRACE_HOURS, because links to it may still be in use.
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
from uuid import uuid4

import structlog

from handlers.codec.codec import Codec
from handlers.database.client import Supabase
from handlers.database.object_records import ObjectRecords
from handlers.database.task_records import TaskRecords
from handlers.errors import FileCorruptedError, FileProcessingError, StorageUnavailableError
from handlers.media import Prepared
from handlers.settings import MediaSettings
from handlers.storage import object_path
from handlers.storage.upload_file import UploadFile
from handlers.tempdirs import scratch
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from schemas.objects import ObjectCount, StoredObject, SuboptimalImage

log = structlog.stdlib.get_logger(__name__)
PAGE: Final = 50
MAX_SIZE_RATIO: Final = 0.95
"""Maximum size of a new file relative to the old one. A smaller saving is not worth the loss of quality."""
PROFILE_NAME: Final = re.compile(
    rf"(?P<format>{'|'.join(ImageFormat)})-q(?P<quality>\d+|auto(?P<ssim>0\.\d+))"
    r"-(?P<metadata>strip|meta)(?P<provenance>-provenance)?"
)


def read_profile(key: str) -> Profile:
    """Parse a profile's name, such as `auto-q85-strip`. Raises ValueError."""
    match = PROFILE_NAME.fullmatch(key)
    if match is None:
        raise ValueError(f"{key!r} is not a profile; write format, quality and metadata, for example auto-q85-strip")
    return Profile(
        format=ImageFormat(match["format"]),
        **({"quality": int(match["quality"])} if match["ssim"] is None else {"ssim": float(match["ssim"])}),
        strip_metadata=match["metadata"] == "strip",
        keep_provenance=match["provenance"] is not None,
    )


@dataclass(slots=True)
class OptimizeResult:
    """Objects made smaller, merged with a duplicate, kept unchanged; failures by error code; bytes saved."""

    smaller: int = 0
    merged: int = 0
    kept: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    bytes_saved: int = 0

    @property
    def total(self) -> int:
        """The number of objects processed."""
        return self.smaller + self.merged + self.kept + self.failed.total()


class Optimizer:
    """Re-compresses the images of all buckets with `profile`, at most `max_concurrent` at once. Variants stay."""

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
        self._records = TaskRecords(supabase)
        self._objects = objects
        self._codec = codec
        self._profile = profile.model_copy(update={"variants": ()})
        self._semaphore = asyncio.Semaphore(settings.max_concurrent)

    async def run(
        self,
        since: datetime | None = None,
        progress: Callable[[int], None] = lambda _: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> OptimizeResult:
        """Process the images recorded since `since`, until none is left or `is_stopped` returns True.

        `progress` is called with the number of processed objects. An object that cannot be processed now is not
        changed, and counted as failed.

        Raises:
            DatabaseUnavailableError: the next images cannot be read. Completed work is kept.
        """
        result = OptimizeResult()
        for bucket in await self._objects.used_buckets():
            supabase, objects = self._storage.in_bucket(bucket), self._objects.in_bucket(bucket)
            optimizer = Optimizer(self._settings, supabase, objects, self._codec, self._profile)
            await optimizer._run_bucket(result, since, progress, is_stopped)
        return result

    async def count(self, since: datetime | None = None) -> ObjectCount:
        """Count the images to process, in all buckets. Raises DatabaseUnavailableError."""
        counts = [
            await self._objects.in_bucket(bucket).count_suboptimal(self._profile.key, since)
            for bucket in await self._objects.used_buckets()
        ]
        return ObjectCount(
            objects=sum(count.objects for count in counts),
            bytes=sum(count.bytes for count in counts),
            duplicates=sum(count.duplicates for count in counts),
        )

    async def _run_bucket(
        self,
        result: OptimizeResult,
        since: datetime | None,
        progress: Callable[[int], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        """Process the images of one bucket; add to the result."""

        async def optimize_image(entry: SuboptimalImage) -> None:
            async with self._semaphore:
                if not is_stopped():
                    await self._optimize(entry, folder, result)
                    progress(result.total)

        async with scratch(self._settings.temp_dir) as folder:
            for only_twins in (False, True):  # the first pass may produce identical files, which the second pass merges
                after = None
                while not is_stopped() and (page := await self._page(since, after)):
                    after = page[-1].path
                    async with asyncio.TaskGroup() as group:
                        for entry in page:
                            if entry.twin is not None or not only_twins:
                                group.create_task(optimize_image(entry))

    async def _page(self, since: datetime | None, after: str | None) -> list[SuboptimalImage]:
        return await self._objects.suboptimal(self._profile.key, since, after, PAGE)

    async def _optimize(self, entry: SuboptimalImage, folder: Path, result: OptimizeResult) -> None:
        """Merge an image with its duplicate, or compress it again; count the result."""
        name = uuid4().hex  # not the hash: objects of several users can have the same content
        source, target = folder / name, folder / f"{name}.new"
        try:
            if entry.twin is not None and await self._storage.exists(entry.twin.path):
                await self._move(entry, StoredObject.model_validate(entry.twin.model_dump()), entry.source_sha256)
                result.merged += 1
                result.bytes_saved += entry.file_size
            elif entry.stale:
                await self._recompress(entry, source, target, result)
            else:
                result.kept += 1
        except FileProcessingError as error:
            log.warning("object not optimized", path=entry.path, code=error.code, error=str(error))
            result.failed[error.code] += 1
        finally:
            for path in (source, target):
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _recompress(self, entry: SuboptimalImage, source: Path, target: Path, result: OptimizeResult) -> None:
        await self._storage.fetch(entry.path, source)
        if await asyncio.to_thread(_sha256, source) != entry.sha256:
            raise FileCorruptedError("the object's content has another hash than its path")
        prepared = await self._codec.prepare(source, target, entry.content_type, self._profile)
        if prepared.path == source or prepared.file_size > entry.file_size * MAX_SIZE_RATIO:
            await self._move(entry, self._stored_object(prepared, entry.path, unchanged=entry))
            result.kept += 1
            return
        folders = entry.path.split("/")[:-2]  # where the other files of the generation are
        path = object_path(entry.user_id, prepared.sha256, prepared.extension, folders)
        await self._records.claim_object(self._storage.bucket, path, entry.user_id)
        await self._storage.put(path, UploadFile.from_prepared(prepared))
        await self._move(entry, self._stored_object(prepared, path))
        result.smaller += 1
        result.bytes_saved += entry.file_size - prepared.file_size

    def _stored_object(
        self, prepared: Prepared, path: str, *, unchanged: SuboptimalImage | None = None
    ) -> StoredObject:
        """Return the object to record. `unchanged` is the existing image if its bytes were kept."""
        content = unchanged or prepared
        return StoredObject(
            path=path,
            sha256=content.sha256,
            file_size=content.file_size,
            content_type=content.content_type,
            width=prepared.width,
            height=prepared.height,
            duration=prepared.duration,
            thumbhash=prepared.thumbhash,
            quality=prepared.quality,
            profile=self._profile.key,
        )

    async def _move(self, entry: SuboptimalImage, to: StoredObject, source_sha256: str | None = None) -> None:
        """Make all files that refer to the image's object refer to `to`, in batches."""
        has_more = True
        while has_more:
            reply = await self._objects.move_object(entry.path, to, source_sha256)
            if reply.state != "moved":
                raise StorageUnavailableError("an object with the same content is being removed")
            has_more = reply.more


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
