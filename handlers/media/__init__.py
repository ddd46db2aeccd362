"""The registry of media types, MEDIA_TYPES, and one module per kind of media that decodes it.

A new type is one line in MEDIA_TYPES, a signature in `handlers/detect/`, a module in `handlers/media/structure/` if
the format has a structure of its own, and a sample in `tests/media_samples.py`. The contract tests and the fuzz tests
iterate over the registry and fail for a type without a sample.

This package is imported by the codec processes as well as by the worker: keep module imports light (no pyvips, no
av, no pydantic).
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from schemas.formats import ImageFormat


class Kind(StrEnum):
    """What a file is to the person who asked for it; a label of metrics."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    MODEL = "model"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class MediaType:
    """One type Outlast stores, and all there is to say of it.

    `extension` has no dot. `reader` is what opens it, by its library's name: libvips' loader or FFmpeg's demuxer.
    `layout` is the module of `handlers.media.structure` that walks the file's structure to its end.
    """

    content_type: str
    extension: str
    kind: Kind
    reader: str | None = None
    layout: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What decoding one file may cost.

    Pixels of all frames together; frames or pages; bytes of memory, which is also the most to decode to; bytes of a
    file that is written; seconds.
    """

    max_pixels: int
    max_frames: int
    max_memory: int
    max_written: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a file is to be stored: a job's `Profile`, without what weighs 9 MB in a codec process (pydantic)."""

    format: ImageFormat
    quality: int
    strip_metadata: bool
    keep_provenance: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that decoded whole and is ready to store.

    `path` is the new file, or the source itself where that is kept. Sizes in bytes, width and height in pixels as a
    viewer shows them (orientation applied), duration in seconds; `sha256` and `md5` are of the bytes
    at `path`, the latter because Storage names them so in its ETag.
    """

    path: Path
    content_type: str
    extension: str
    file_size: int
    sha256: str
    md5: str
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    frames: int | None = None
    thumbhash: str | None = None


MEDIA_TYPES: Final[tuple[MediaType, ...]] = (
    MediaType("image/jpeg", "jpg", Kind.IMAGE, reader="jpegload", layout="jpeg"),
    MediaType("image/png", "png", Kind.IMAGE, reader="pngload", layout="png"),
    MediaType("image/webp", "webp", Kind.IMAGE, reader="webpload", layout="riff"),
    MediaType("image/gif", "gif", Kind.IMAGE, reader="gifload", layout="gif"),
    MediaType("image/avif", "avif", Kind.IMAGE, reader="heifload", layout="boxes"),
    MediaType(
        "image/tiff", "tiff", Kind.IMAGE, reader="tiffload", layout="tiff"
    ),  # its directories may lie anywhere: it has no end
    MediaType("image/heic", "heic", Kind.IMAGE, layout="heic"),  # by pillow-heif: our libvips decodes no HEVC
    MediaType("video/mp4", "mp4", Kind.VIDEO, reader="mp4", layout="boxes"),
    MediaType("video/webm", "webm", Kind.VIDEO, reader="matroska", layout="ebml"),
    MediaType("video/quicktime", "mov", Kind.VIDEO, reader="mov", layout="boxes"),
    MediaType("video/x-matroska", "mkv", Kind.VIDEO, reader="matroska", layout="ebml"),
    MediaType("audio/mpeg", "mp3", Kind.AUDIO, reader="mp3", layout="mp3"),
    MediaType("audio/wav", "wav", Kind.AUDIO, reader="wav", layout="riff"),
    MediaType("audio/flac", "flac", Kind.AUDIO, reader="flac", layout="flac"),
    MediaType("audio/ogg", "ogg", Kind.AUDIO, reader="ogg", layout="ogg"),
    MediaType("audio/mp4", "m4a", Kind.AUDIO, reader="mp4", layout="boxes"),
    MediaType("audio/aac", "aac", Kind.AUDIO, reader="aac", layout="adts"),
    MediaType("model/gltf-binary", "glb", Kind.MODEL, layout="glb"),
    MediaType("model/gltf+json", "gltf", Kind.MODEL, layout="gltf"),
    MediaType("model/obj", "obj", Kind.MODEL, layout="obj"),
    MediaType("model/ply", "ply", Kind.MODEL, layout="ply"),
    MediaType("application/zip", "zip", Kind.ARCHIVE, layout="archive"),
)
BY_CONTENT_TYPE: Final = {media.content_type: media for media in MEDIA_TYPES}
