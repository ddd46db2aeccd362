"""Makes the variants that VARIANTS or a binding asks for now, for files that were stored with other variants.

Variants of a video are of its poster; audio has the waveform. Only files with other variants are processed, so that an
interrupted run continues where it stopped. Nothing is removed: an object that no file refers to any more is an orphan.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import structlog

from handlers.codec.codec import Codec
from handlers.codec.operations import poster_variants
from handlers.database.client import Supabase
from handlers.database.object_records import ObjectRecords
from handlers.database.task_records import TaskRecords
from handlers.errors import FileProcessingError, StorageUnavailableError
from handlers.settings import MediaSettings
from handlers.storage.variants import store_variants, variant_paths
from handlers.tempdirs import remove_folder, scratch
from schemas.files import StoredVariant
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from schemas.objects import ObjectCount, UnvariedFile
from schemas.variants import parse_variants, variants_text
from worker.periodic.optimize import PAGE, read_profile

log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class VaryResult:
    """Files that have got the wanted variants, and failures by error code."""

    varied: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """The number of files processed."""
        return self.varied + self.failed.total()


class VariantMaker:
    """Makes variants of the files of all buckets, at most `max_concurrent` at once."""

    def __init__(self, settings: MediaSettings, supabase: Supabase, objects: ObjectRecords, codec: Codec) -> None:
        self._settings = settings
        self._supabase = supabase
        self._records = TaskRecords(supabase)
        self._objects = objects
        self._codec = codec
        self._default = variants_text(settings.variants)
        self._semaphore = asyncio.Semaphore(settings.max_concurrent)

    async def count(self, since: datetime | None = None) -> ObjectCount:
        """Count the files to process, in all buckets. Raises DatabaseUnavailableError."""
        counts = [
            await self._objects.in_bucket(bucket).count_unvaried(self._default, since)
            for bucket in await self._objects.used_buckets()
        ]
        return ObjectCount(objects=sum(count.objects for count in counts), bytes=sum(count.bytes for count in counts))

    async def run(
        self,
        since: datetime | None = None,
        progress: Callable[[int], None] = lambda _: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> VaryResult:
        """Process the files recorded since `since`, until none is left or `is_stopped` returns True.

        `progress` is called with the number of processed files. A file that cannot be processed now is not changed, and
        counted as failed.

        Raises:
            DatabaseUnavailableError: the next files cannot be read. Completed work is kept.
        """
        result = VaryResult()
        for bucket in await self._objects.used_buckets():
            objects, after = self._objects.in_bucket(bucket), None
            while not is_stopped() and (page := await objects.unvaried(self._default, since, after, PAGE)):
                after = page[-1].path
                async with scratch(self._settings.temp_dir) as folder, asyncio.TaskGroup() as group:
                    for file in page:
                        group.create_task(self._process(file, bucket, folder, result, progress, is_stopped))
        return result

    async def _process(
        self,
        file: UnvariedFile,
        bucket: str,
        folder: Path,
        result: VaryResult,
        progress: Callable[[int], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        async with self._semaphore:
            if is_stopped():
                return
            try:
                await self._vary(file, bucket, folder)
                result.varied += 1
            except FileProcessingError as error:
                log.warning("no variants made", path=file.path, code=error.code, error=str(error))
                result.failed[error.code] += 1
            progress(result.total)

    async def _vary(self, file: UnvariedFile, bucket: str, folder: Path) -> None:
        own = folder / uuid4().hex
        await asyncio.to_thread(own.mkdir)
        try:
            variants = await self._make(file, bucket, own) if file.wanted else []
        finally:
            await remove_folder(own)  # the other files of the page may take long, so free the disk now
        objects, has_more = self._objects.in_bucket(bucket), True
        while has_more:
            reply = await objects.set_variants(file, variants, self._default)
            if reply.state != "moved":
                raise StorageUnavailableError("an object with the same content is being removed")
            has_more = reply.more

    async def _make(self, file: UnvariedFile, bucket: str, folder: Path) -> list[StoredVariant]:
        """Make and store the wanted variants of a file."""
        profile, is_image = self._profile(file), file.content_type.startswith("image/")
        if not is_image and not poster_variants(file.content_type, profile):
            return []
        storage, source = self._supabase.in_bucket(bucket), folder / "source"
        await storage.fetch(file.path, source)
        make = self._codec.prepare if is_image else self._codec.make_poster
        made = await make(source, folder / "new", file.content_type, profile)
        paths = variant_paths(file.path, made.variants)
        if paths:
            await self._records.claim_objects(bucket, list(paths.values()), file.user_id)
        return await store_variants(storage, file.path, made.variants, verify=True)

    def _profile(self, file: UnvariedFile) -> Profile:
        """Return the profile that keeps the file, and makes variants as if it had just arrived.

        Raises:
            FileProcessingError: the wanted variants are not valid.
        """
        try:
            variants = parse_variants(file.wanted)
            quality = read_profile(file.profile or "").quality
        except ValueError as error:
            raise FileProcessingError(f"the variants {file.wanted!r} cannot be made: {error}") from None
        chosen = self._settings.image_format
        default = None if chosen in {ImageFormat.AUTO, ImageFormat.KEEP} else chosen
        variants = tuple(each.model_copy(update={"format": each.format or default}) for each in variants)
        return Profile(format=ImageFormat.KEEP, quality=quality, variants=variants)
