"""The steps of the pipeline, and what they work on and with. Their order stands in `pipeline.STEPS`.

An Item is frozen; a step returns it with one thing more, or raises from the error tree.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from handlers.codec.codec import Codec
from handlers.detect import DetectedType
from handlers.detect import detect as detect_type
from handlers.download import Downloader
from handlers.download.file_writer import DownloadedFile
from handlers.errors import FileTypeNotSupportedError, SourceGoneError
from handlers.media import MediaType, Prepared
from handlers.observer import AttemptHooks, Observer
from handlers.settings import MediaSettings
from handlers.storage import Storage, object_path
from handlers.storage.upload_file import UploadFile
from schemas.files import ProcessedFile
from schemas.jobs import JobFile, Profile, file_id_for
from schemas.urls import is_data_reference, name_from_url, redact_url

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
    batch: Batch
    folder: Path
    downloaded: DownloadedFile | None = None
    media: MediaType | None = None
    prepared: Prepared | None = None
    stored: ProcessedFile | None = None


async def download(state: FileState, deps: PipelineDeps) -> FileState:
    """Fetch the source to disk, hashed on the way; of what is not stored, no more than it takes to see that."""
    url = state.file.url
    if is_data_reference(url):
        if deps.inline is None:
            raise SourceGoneError(f"{url} can only be read from the generation's row, and there is no database")
        url = await deps.inline(state.batch.generation_id, url)
    received = None if state.batch.received is None else partial(state.batch.received, state.file)
    got = await deps.downloader.fetch(url, state.folder / "source", progress=received, inspect=_glance)
    return replace(state, downloaded=got)


async def detect(state: FileState, deps: PipelineDeps) -> FileState:  # noqa: ARG001 - every step takes the tools
    """Decide from the content what it is."""
    source = require(state.downloaded)
    with source.path.open("rb") as file:
        found = detect_type(file.read(HEAD_BYTES), state.file.url)
    if found.media is None:
        raise _not_stored(found)
    return replace(state, media=found.media)


async def deduplicate(state: FileState, deps: PipelineDeps) -> FileState:
    """Use what this user has stored from the same bytes before, if it is still there."""
    if deps.known is None:
        return state
    source = require(state.downloaded)
    before = await deps.known(state.batch.user_id, source.sha256, state.batch.profile.key)
    if before is None or before.bucket != deps.storage.bucket:
        return state
    if not state.batch.sees_storage and not await deps.storage.exists(before.path):
        return state
    return replace(state, stored=before.model_copy(update={**_identity(state), "deduplicated": True}))


async def prepare(state: FileState, deps: PipelineDeps) -> FileState:
    """Validate and compress in one decode pass, in a codec process."""
    source, media = require(state.downloaded), require(state.media)
    target = state.folder / "prepared"
    prepared = await deps.codec.prepare(source.path, target, media.content_type, state.batch.profile)
    return replace(state, prepared=prepared)


async def upload(state: FileState, deps: PipelineDeps) -> FileState:
    """Store the prepared file under its hash; being there already is as good."""
    source, made = require(state.downloaded), require(state.prepared)
    path = object_path(state.batch.user_id, made.sha256, made.extension)
    if deps.claim is not None:
        await deps.claim(deps.storage.bucket, path, state.batch.user_id)
    is_new = await deps.storage.put(path, UploadFile.made(made), look=not state.batch.sees_storage)
    if is_new:
        deps.observer.stored(made.file_size, source.size - made.file_size)
    stored = ProcessedFile(
        **_identity(state),
        original_size=source.size,
        file_size=made.file_size,
        content_type=made.content_type,
        bucket=deps.storage.bucket,
        path=path,
        sha256=made.sha256,
        width=made.width,
        height=made.height,
        duration=made.duration,
        frames=made.frames,
        thumbhash=made.thumbhash,
        source_sha256=source.sha256,
        profile=state.batch.profile.key,
        deduplicated=not is_new,
        md5=made.md5 if is_new and state.batch.sees_storage else None,
    )
    return replace(state, stored=stored)


def _glance(head: bytes) -> None:
    """Refuse what is not stored by its first bytes.

    Text is left to `detect`, which sees more of it, where it may yet turn out a model: an OBJ may begin with pages of
    comments, a glTF with pages of data.
    """
    found = detect_type(head)
    if found.media is None and not head.lstrip().startswith((b"#", b"{")):
        raise _not_stored(found)


def _not_stored(found: DetectedType) -> FileTypeNotSupportedError:
    return FileTypeNotSupportedError(f"the content is {found.sniffed}, which is not stored")


def _identity(state: FileState) -> dict[str, object]:
    """Return what makes a stored file this generation's: its id, place and origin."""
    return {
        "id": file_id_for(state.batch.generation_id, state.file.source_key),
        "position": state.file.position,
        "original_filename": state.file.file_name or name_from_url(state.file.url),
        "source_url": redact_url(state.file.url),
        "source_key": state.file.source_key,
    }


def require(value: T | None) -> T:
    """Return what an earlier step must have provided."""
    if value is None:
        raise RuntimeError("STEPS is out of order: a step needs what no step before it provides")
    return value
