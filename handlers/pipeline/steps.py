"""The steps of the pipeline, and what they work on and with. Their order stands in `pipeline.STEPS`.

An Item is frozen; a step returns it with one thing more, or raises from the error tree.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from handlers.codec.codec import Codec
from handlers.detect import Detected
from handlers.detect import detect as detect_type
from handlers.download import Downloader
from handlers.download.file_writer import Downloaded
from handlers.errors import FileTypeNotSupportedError, SourceGoneError
from handlers.media import MediaType, Prepared
from handlers.observer import AttemptHooks, Observer
from handlers.settings import MediaSettings
from handlers.storage import Storage, object_path
from handlers.storage.upload_file import Content
from schemas.files import ProcessedFile
from schemas.jobs import JobFile, Profile, file_id_for
from schemas.urls import file_name, is_reference, shown

HEAD_BYTES: Final = 64 * 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """What a job asks for: these files, for this user and generation, stored in this manner.

    `received` is told (file, downloaded, total) bytes while files arrive; a file begins only while `may_start` says so.
    `sees_storage`: the database looks for itself whether Storage has what is recalled and recorded, and has it whole.
    """

    files: tuple[JobFile, ...]
    user_id: str | None
    generation_id: str
    profile: Profile
    max_concurrent: int
    received: Callable[[JobFile, int, int], None] | None = None
    may_start: Callable[[], bool] = lambda: True
    watch: AttemptHooks = field(default_factory=AttemptHooks)
    sees_storage: bool = False


@dataclass(frozen=True, slots=True)
class PipelineDeps:
    """What the steps work with.

    Without `known` nothing is recalled, without `inline` no reference is resolved, without `claim` nothing is removed.
    """

    settings: MediaSettings
    downloader: Downloader
    codec: Codec
    storage: Storage
    observer: Observer
    known: Callable[[str | None, str, str], Awaitable[ProcessedFile | None]] | None = None
    inline: Callable[[str, str], Awaitable[str]] | None = None
    claim: Callable[[str, str, str | None], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class FileState:
    """One file on its way."""

    file: JobFile
    work: Batch
    folder: Path
    downloaded: Downloaded | None = None
    media: MediaType | None = None
    prepared: Prepared | None = None
    stored: ProcessedFile | None = None


async def download(item: FileState, tools: PipelineDeps) -> FileState:
    """Fetch the source to disk, hashed on the way; of what is not stored, no more than it takes to see that."""
    url = item.file.url
    if is_reference(url):
        if tools.inline is None:
            raise SourceGoneError(f"{url} can only be read from the generation's row, and there is no database")
        url = await tools.inline(item.work.generation_id, url)
    received = None if item.work.received is None else partial(item.work.received, item.file)
    got = await tools.downloader.fetch(url, item.folder / "source", progress=received, inspect=_glance)
    return replace(item, downloaded=got)


async def detect(item: FileState, tools: PipelineDeps) -> FileState:  # noqa: ARG001 - every step takes the tools
    """Decide from the content what it is."""
    source = needed(item.downloaded)
    with source.path.open("rb") as file:
        found = detect_type(file.read(HEAD_BYTES), item.file.url)
    if found.media is None:
        raise _not_stored(found)
    return replace(item, media=found.media)


async def recall(item: FileState, tools: PipelineDeps) -> FileState:
    """Use what this user has stored from the same bytes before, if it is still there."""
    if tools.known is None:
        return item
    source = needed(item.downloaded)
    before = await tools.known(item.work.user_id, source.sha256, item.work.profile.key)
    if before is None or before.bucket != tools.storage.bucket:
        return item
    if not item.work.sees_storage and not await tools.storage.exists(before.path):
        return item
    return replace(item, stored=before.model_copy(update={**_identity(item), "deduplicated": True}))


async def prepare(item: FileState, tools: PipelineDeps) -> FileState:
    """Validate and compress in one decode pass, in a codec process."""
    source, media = needed(item.downloaded), needed(item.media)
    target = item.folder / "prepared"
    prepared = await tools.codec.prepare(source.path, target, media.content_type, item.work.profile)
    return replace(item, prepared=prepared)


async def upload(item: FileState, tools: PipelineDeps) -> FileState:
    """Store the prepared file under its hash; being there already is as good."""
    source, made = needed(item.downloaded), needed(item.prepared)
    path = object_path(item.work.user_id, made.sha256, made.extension)
    if tools.claim is not None:
        await tools.claim(tools.storage.bucket, path, item.work.user_id)
    is_new = await tools.storage.put(path, Content.made(made), look=not item.work.sees_storage)
    if is_new:
        tools.observer.stored(made.file_size, source.size - made.file_size)
    stored = ProcessedFile(
        **_identity(item),
        original_size=source.size,
        file_size=made.file_size,
        content_type=made.content_type,
        bucket=tools.storage.bucket,
        path=path,
        sha256=made.sha256,
        width=made.width,
        height=made.height,
        duration=made.duration,
        frames=made.frames,
        thumbhash=made.thumbhash,
        source_sha256=source.sha256,
        profile=item.work.profile.key,
        deduplicated=not is_new,
        md5=made.md5 if is_new and item.work.sees_storage else None,
    )
    return replace(item, stored=stored)


def _glance(head: bytes) -> None:
    """Refuse what is not stored by its first bytes.

    Text is left to `detect`, which sees more of it, where it may yet turn out a model: an OBJ may begin with pages of
    comments, a glTF with pages of data.
    """
    found = detect_type(head)
    if found.media is None and not head.lstrip().startswith((b"#", b"{")):
        raise _not_stored(found)


def _not_stored(found: Detected) -> FileTypeNotSupportedError:
    return FileTypeNotSupportedError(f"the content is {found.sniffed}, which is not stored")


def _identity(item: FileState) -> dict[str, object]:
    """Return what makes a stored file this generation's: its id, place and origin."""
    return {
        "id": file_id_for(item.work.generation_id, item.file.source_key),
        "position": item.file.position,
        "original_filename": item.file.file_name or file_name(item.file.url),
        "source_url": shown(item.file.url),
        "source_key": item.file.source_key,
    }


def needed(value: T | None) -> T:
    """Return what an earlier step must have provided."""
    if value is None:
        raise RuntimeError("STEPS is out of order: a step needs what no step before it provides")
    return value
