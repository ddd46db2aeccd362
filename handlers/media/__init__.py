"""What kinds of media there are: one registry, MEDIA_TYPES, and one module for each kind's decoding.

This package is imported by the codec processes as well as by the worker: keep module imports light (no pyvips, no
av at import time of this file).
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final


class Kind(StrEnum):
    """What a file is to the person who asked for it; a label of metrics."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    MODEL = "model"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class MediaType:
    """One type Outlast stores. `extension` has no dot."""

    content_type: str
    extension: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Limits:
    """What decoding one file may cost: pixels of all frames together, bytes of memory, seconds."""

    max_pixels: int
    max_memory: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that decoded whole and is ready to store.

    `path` is the new file, or the source itself where that is kept. Sizes in bytes, width and height in pixels as a
    viewer shows them (orientation applied), duration in seconds; `sha256` is of the bytes at `path`.
    """

    path: Path
    content_type: str
    extension: str
    file_size: int
    sha256: str
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    frames: int | None = None
    thumbhash: str | None = None


MEDIA_TYPES: Final[tuple[MediaType, ...]] = (
    MediaType("image/jpeg", "jpg", Kind.IMAGE),
    MediaType("image/png", "png", Kind.IMAGE),
    MediaType("image/webp", "webp", Kind.IMAGE),
    MediaType("image/gif", "gif", Kind.IMAGE),
    MediaType("image/avif", "avif", Kind.IMAGE),
    MediaType("image/tiff", "tiff", Kind.IMAGE),
    MediaType("image/heic", "heic", Kind.IMAGE),
    MediaType("video/mp4", "mp4", Kind.VIDEO),
    MediaType("video/webm", "webm", Kind.VIDEO),
    MediaType("video/quicktime", "mov", Kind.VIDEO),
    MediaType("video/x-matroska", "mkv", Kind.VIDEO),
    MediaType("audio/mpeg", "mp3", Kind.AUDIO),
    MediaType("audio/wav", "wav", Kind.AUDIO),
    MediaType("audio/flac", "flac", Kind.AUDIO),
    MediaType("audio/ogg", "ogg", Kind.AUDIO),
    MediaType("audio/mp4", "m4a", Kind.AUDIO),
    MediaType("audio/aac", "aac", Kind.AUDIO),
    MediaType("model/gltf-binary", "glb", Kind.MODEL),
    MediaType("model/gltf+json", "gltf", Kind.MODEL),
    MediaType("model/obj", "obj", Kind.MODEL),
    MediaType("model/ply", "ply", Kind.MODEL),
    MediaType("application/zip", "zip", Kind.ARCHIVE),
)
BY_CONTENT_TYPE: Final = {media.content_type: media for media in MEDIA_TYPES}
