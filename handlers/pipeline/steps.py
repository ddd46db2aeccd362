"""The steps of the pipeline. `handlers.pipeline.STEPS` has their order.

A step takes the frozen FileState of one file and returns a copy with one more field set. It raises an error of the
tree in `handlers.errors` when the file cannot be processed.
"""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from handlers.detect import DetectedType
from handlers.detect import detect as detect_type
from handlers.detect.refused import is_refused
from handlers.download.disk_space import DiskSpace
from handlers.download.file_writer import DownloadedFile
from handlers.download.transfer import DownloadProgress
from handlers.errors import FileProcessingError, FileSkippedError, FileTypeNotSupportedError, SourceGoneError
from handlers.media import UNVERIFIED
from handlers.media.describe import describe_unverified
from handlers.pipeline.state import Batch, FileState, PipelineDeps
from handlers.settings import MediaSettings
from handlers.sources.refusals import MESSAGES, refusal_of
from handlers.storage import Storage
from handlers.storage.upload_file import UploadFile
from handlers.storage.variants import store_variants, variant_paths
from schemas.files import ProcessedFile
from schemas.jobs import JobFile, identity_of
from schemas.urls import is_data_reference

DETECTION_BYTES: Final = 64 * 1024
"""How much of a file `detect` reads. HEAD_BYTES are enough, except for models in text formats."""
T = TypeVar("T")


async def download(state: FileState, deps: PipelineDeps) -> FileState:
    """Download the source file to disk. The download ends early when the first bytes show an unsupported type.

    A download that has started early is awaited. A reference to a `data:` URI is read from the generation's row first.
    A placeholder is not downloaded; it fails with its code.
    """
    if state.batch.early is not None:
        return replace(state, downloaded=await state.batch.early.result())
    url = state.file.url
    if (refusal := refusal_of(url)) is not None:
        raise FileProcessingError(MESSAGES[refusal], code=refusal)
    if is_data_reference(url):
        if deps.read_data_uri is None:
            raise SourceGoneError(
                f"{url} refers to content in the generation's row, which cannot be read without SUPABASE_URL"
            )
        url = await deps.read_data_uri(state.batch.binding, state.batch.generation_id, url)
    on_progress = None if state.batch.on_progress is None else partial(state.batch.on_progress, state.file)
    fetch = partial(fetch_source, deps, url, on_progress=on_progress, count_denied=state.batch.count_denied)
    return replace(state, downloaded=await fetch(state.folder / "source", state.space))


async def fetch_source(
    deps: PipelineDeps,
    url: str,
    target: Path,
    space: DiskSpace,
    *,
    on_progress: DownloadProgress | None = None,
    count_denied: bool = True,
) -> DownloadedFile:
    """Download a source file to `target`, unless its first bytes show a type that will not be stored."""
    check_head = partial(_check_head, deps.settings)
    return await deps.downloader.fetch(
        url, target, progress=on_progress, check_head=check_head, count_denied=count_denied, space=space
    )


async def detect(state: FileState, deps: PipelineDeps) -> FileState:
    """Detect the media type from the content. With UNSUPPORTED_FILES=keep, other types become UNVERIFIED."""
    source = require(state.downloaded)
    with source.path.open("rb") as file:
        detected = detect_type(file.read(DETECTION_BYTES), state.file.url)
    if (error := _refusal(detected, deps.settings)) is not None:
        raise error
    return replace(state, media=detected.media or UNVERIFIED)


async def deduplicate(state: FileState, deps: PipelineDeps) -> FileState:
    """Reuse the object that this user has stored from the same bytes with the same profile.

    The object must still exist, in the bucket and the folders of this batch.
    """
    if deps.find_stored is None:
        return state
    source = require(state.downloaded)
    storage = state.batch.storage_of(deps.storage)
    earlier = await deps.find_stored(state.batch.user_id, source.sha256, state.batch.profile.key)
    if earlier is None or earlier.bucket != storage.bucket or not in_folders(state.batch, earlier.path):
        return state
    if not state.batch.sees_storage and not await _exist(storage, earlier):
        return state
    return replace(state, stored=as_duplicate(state.file, state.batch, earlier))


async def prepare(state: FileState, deps: PipelineDeps) -> FileState:
    """Validate and compress the file in one decode pass, in a codec process. UNVERIFIED files are not decoded.

    Then the poster of a video is made, and the waveform of audio if one is wanted. Files wait for a codec process, in
    turn by user.
    """
    source, media = require(state.downloaded), require(state.media)
    if media is UNVERIFIED:
        return replace(state, prepared=await asyncio.to_thread(describe_unverified, source.path))
    target = state.folder / "prepared"
    async with deps.codec.turns.take(state.batch.user_id):
        prepared = await deps.codec.prepare(source.path, target, media.content_type, state.batch.profile)
        prepared = await deps.codec.add_poster(prepared, state.folder / "poster", state.batch.profile)
    return replace(state, prepared=prepared)


async def upload(state: FileState, deps: PipelineDeps) -> FileState:
    """Store the prepared file under the path that holds its hash, unless the object exists already."""
    source, prepared = require(state.downloaded), require(state.prepared)
    storage = state.batch.storage_of(deps.storage)
    path = state.batch.path_of(prepared.sha256, prepared.extension)
    paths = variant_paths(path, prepared.variants) if prepared.variants else {}
    if deps.claim_objects is not None and paths:
        await deps.claim_objects(storage.bucket, [path, *paths.values()], state.batch.user_id)
    elif deps.claim_object is not None:
        await deps.claim_object(storage.bucket, path, state.batch.user_id)
    verify = not state.batch.sees_storage
    is_new = await storage.put(path, UploadFile.from_prepared(prepared), verify=verify)
    if is_new:
        deps.observer.stored(prepared.file_size, source.size - prepared.file_size)
    variants = await store_variants(storage, path, prepared.variants, verify=verify) if prepared.variants else None
    stored = ProcessedFile(
        **identity_of(state.file, state.batch.generation_id, state.batch.binding),
        original_size=source.size,
        file_size=prepared.file_size,
        content_type=prepared.content_type,
        bucket=storage.bucket,
        path=path,
        sha256=prepared.sha256,
        width=prepared.width,
        height=prepared.height,
        duration=prepared.duration,
        frames=prepared.frames,
        thumbhash=prepared.thumbhash,
        quality=prepared.quality,
        source_sha256=source.sha256,
        profile=state.batch.profile.key,
        deduplicated=not is_new,
        md5=prepared.md5 if is_new and state.batch.sees_storage else None,
        variants=variants,
    )
    return replace(state, stored=stored)


async def _exist(storage: Storage, file: ProcessedFile) -> bool:
    """Return whether Storage has a file and its variants."""
    paths = {file.path, *(variant.path for variant in file.variants or ())}
    return all(await asyncio.gather(*(storage.exists(path) for path in paths)))


def in_folders(batch: Batch, path: str) -> bool:
    """Return whether an object's path is in the folders of the batch; True if the binding names no folders."""
    return batch.folders is None or path.rsplit("/", 2)[0] == batch.path_of("", "").rsplit("/", 2)[0]


def as_duplicate(file: JobFile, batch: Batch, earlier: ProcessedFile) -> ProcessedFile:
    """Return the record of `file` as stored, with the object of the file `earlier`."""
    identity = identity_of(file, batch.generation_id, batch.binding)
    return earlier.model_copy(update={**identity, "deduplicated": True})


def _check_head(settings: MediaSettings, head: bytes) -> None:
    """Raise an error when the first bytes show a type that will not be stored.

    Text that begins with `#` or `{` is left to `detect`, which reads more of it: an OBJ file may begin with pages of
    comments, a glTF file with pages of data.
    """
    detected = detect_type(head)
    may_become_text = head.lstrip().startswith((b"#", b"{")) and not is_refused(detected.mime_type)
    if (error := _refusal(detected, settings)) is not None and not may_become_text:
        raise error


def _refusal(detected: DetectedType, settings: MediaSettings) -> FileProcessingError | None:
    """Return the error of a file that will not be stored because of its type; None if it will be."""
    if detected.media is not None:
        return None
    message = f"the content is {detected.mime_type}, which is not stored"
    if is_refused(detected.mime_type) or settings.unsupported_files == "fail":
        return FileTypeNotSupportedError(message)
    return FileSkippedError(f"{message} (UNSUPPORTED_FILES)") if settings.unsupported_files == "skip" else None


def require(value: T | None) -> T:
    """Return a value that an earlier step has set; raise RuntimeError when it is None."""
    if value is None:
        raise RuntimeError("STEPS is out of order: a step needs a value that no earlier step has set")
    return value
