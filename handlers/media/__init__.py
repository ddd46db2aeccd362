"""The registry of media types, MEDIA_TYPES, and the code that validates and encodes them.

A new type is one entry in MEDIA_TYPES, and one module with `check_content` if its format has none. CONTRIBUTING.md
lists the tests that fail until the rest is there.

The codec processes and the worker both import this package: keep its module imports light (no pyvips, av, pydantic).
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from schemas.formats import ImageFormat


class Kind(StrEnum):
    """The kind of a file, as users see it; a label of metrics."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    MODEL = "model"
    ARCHIVE = "archive"
    TEXT = "text"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class MediaType:
    """One type that Outlast stores.

    `extension` has no dot. `reader` is the libvips loader or the FFmpeg demuxer that opens it. `structure` is the
    module in `handlers.media` whose `check_content` or `check_and_repair` checks the structure of the file. `magic` is
    a regular expression for the first bytes, if they suffice to detect the type; other types have a check in
    `handlers.detect.signatures`. `prepared_by` is the module in `handlers.media` whose `prepare` validates the file, if
    it is not that of its kind.
    """

    content_type: str
    extension: str
    kind: Kind
    reader: str | None = None
    structure: str | None = None
    magic: bytes | None = None
    prepared_by: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for decoding one file.

    `max_pixels`: pixels of all frames of an image together, or of one frame of a video. `max_frames`: number of frames
    or pages. `max_memory`: bytes of memory, also of the decoded content. `max_written`: bytes of each written file.
    """

    max_pixels: int
    max_frames: int
    max_memory: int
    max_written: int
    seconds: float


@dataclass(frozen=True, slots=True)
class VariantOptions:
    """A variant to make: the fields of `schemas.variants.Variant`, with format and quality set."""

    name: str
    width: int
    height: int | None
    format: ImageFormat
    quality: int
    animated: bool
    waveform: bool = False


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How to store a file: the fields of a job's `Profile` that a codec process needs, without its 9 MB of pydantic."""

    format: ImageFormat
    quality: int
    strip_metadata: bool
    keep_provenance: bool
    ssim: float | None = None
    variants: tuple[VariantOptions, ...] = ()


VARIANT: Final = "variant-"
"""Prefix of the name of a variant's file in a work folder. The variant's number in the request follows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedVariant:
    """A smaller version of a picture that a codec process has made.

    `path` is None if the variant is the picture itself, which is small enough and has the requested format.
    """

    name: str
    path: Path | None
    content_type: str
    width: int
    height: int
    frames: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A file that a codec process has decoded completely.

    `path` is the new file, or the source if that is kept. Width and height are in pixels with orientation applied; the
    duration is in seconds. `quality` is the one that reached `EncodeOptions.ssim`, or None if that was not set.
    """

    path: Path
    content_type: str
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    frames: int | None = None
    thumbhash: str | None = None
    quality: int | None = None
    variants: tuple[DecodedVariant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Poster:
    """The placeholder and the variants of a video, or the waveforms of audio, that a codec process has made."""

    thumbhash: str | None = None
    variants: tuple[DecodedVariant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedVariant(DecodedVariant):
    """A variant that is ready to store. The worker has computed size and hashes.

    `is_picture`: the variant is the picture itself.
    """

    path: Path
    extension: str
    file_size: int
    sha256: str
    md5: str
    is_picture: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Decoded):
    """A file that is ready to store.

    The worker has computed the size in bytes and the hashes from the file at `path`. It does not rely on the codec
    process, which may have been taken over. Storage uses the MD5 in its ETag.
    """

    extension: str
    file_size: int
    sha256: str
    md5: str
    variants: tuple[PreparedVariant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPoster(Poster):
    """The placeholder of a video, and the variants of video or audio that are ready to store."""

    variants: tuple[PreparedVariant, ...] = ()


MEDIA_TYPES: Final[tuple[MediaType, ...]] = (
    MediaType(  # ISO/IEC 10918-1, B.2; F7 is JPEG-LS
        "image/jpeg", "jpg", Kind.IMAGE, reader="jpegload", structure="formats.jpeg", magic=rb"\xff\xd8\xff[^\xf7]"
    ),
    MediaType(  # PNG, 5.2 and 5.6
        "image/png", "png", Kind.IMAGE, reader="pngload", structure="formats.png", magic=rb"\x89PNG\r\n\x1a\n.{4}IHDR"
    ),
    MediaType(  # RFC 9649, 2.4
        "image/webp", "webp", Kind.IMAGE, reader="webpload", structure="formats.riff", magic=rb"RIFF.{4}WEBP"
    ),
    MediaType(  # GIF 89a, 17
        "image/gif", "gif", Kind.IMAGE, reader="gifload", structure="formats.gif", magic=rb"GIF8[79]a"
    ),
    MediaType("image/avif", "avif", Kind.IMAGE, reader="heifload", structure="formats.isobmff"),
    MediaType("image/tiff", "tiff", Kind.IMAGE, reader="tiffload", structure="formats.tiff"),
    MediaType("image/heic", "heic", Kind.IMAGE, structure="image.heic"),  # by pillow-heif: our libvips has no HEVC
    MediaType("image/svg+xml", "svg", Kind.IMAGE, structure="vector.svg", prepared_by="vector.svg"),
    MediaType("image/bmp", "bmp", Kind.IMAGE, structure="still.bitmaps"),  # these five by Pillow
    MediaType("image/x-tga", "tga", Kind.IMAGE, structure="still.bitmaps"),
    MediaType("image/vnd.microsoft.icon", "ico", Kind.IMAGE, structure="still.bitmaps"),
    MediaType(  # ISO/IEC 15444-1, I.5.1
        "image/jp2", "jp2", Kind.IMAGE, structure="still.jpeg2000", magic=rb"\0\0\0\x0cjP  \r\n\x87\n"
    ),
    MediaType("image/vnd.adobe.photoshop", "psd", Kind.IMAGE, structure="still.psd", magic=rb"8BPS\0[\1\2]\0{6}"),
    MediaType(
        "image/x-exr", "exr", Kind.IMAGE, structure="still.exr", magic=rb"\x76\x2f\x31\x01", prepared_by="still.exr"
    ),
    MediaType("video/mp4", "mp4", Kind.VIDEO, reader="mp4", structure="formats.isobmff"),
    MediaType("video/webm", "webm", Kind.VIDEO, reader="matroska", structure="formats.ebml"),
    MediaType("video/quicktime", "mov", Kind.VIDEO, reader="mov", structure="formats.isobmff"),
    MediaType("video/x-matroska", "mkv", Kind.VIDEO, reader="matroska", structure="formats.ebml"),
    MediaType("video/3gpp", "3gp", Kind.VIDEO, reader="3gp", structure="formats.isobmff"),
    MediaType("video/mp2t", "ts", Kind.VIDEO, reader="mpegts", structure="av.transport_stream"),
    MediaType("video/x-msvideo", "avi", Kind.VIDEO, reader="avi", structure="av.avi", magic=rb"RIFF.{4}AVI "),
    MediaType("audio/mpeg", "mp3", Kind.AUDIO, reader="mp3", structure="formats.mp3"),
    MediaType(  # RFC 2361
        "audio/wav", "wav", Kind.AUDIO, reader="wav", structure="formats.wav", magic=rb"RIFF.{4}WAVE"
    ),
    MediaType("audio/flac", "flac", Kind.AUDIO, reader="flac", structure="formats.flac", magic=rb"fLaC"),  # RFC 9639, 6
    MediaType("audio/ogg", "ogg", Kind.AUDIO, reader="ogg", structure="formats.ogg"),
    MediaType("audio/mp4", "m4a", Kind.AUDIO, reader="mp4", structure="formats.isobmff"),
    MediaType("audio/aac", "aac", Kind.AUDIO, reader="aac", structure="formats.adts"),
    MediaType("audio/aiff", "aiff", Kind.AUDIO, reader="aiff", structure="av.aiff", magic=rb"FORM.{4}AIF[FC]"),
    MediaType("audio/webm", "weba", Kind.AUDIO, reader="matroska", structure="formats.ebml"),
    MediaType("audio/x-matroska", "mka", Kind.AUDIO, reader="matroska", structure="formats.ebml"),
    MediaType("audio/quicktime", "qta", Kind.AUDIO, reader="mov", structure="formats.isobmff"),
    MediaType("audio/3gpp", "3ga", Kind.AUDIO, reader="3gp", structure="formats.isobmff"),
    MediaType("model/gltf-binary", "glb", Kind.MODEL, structure="model.glb"),
    MediaType("model/gltf+json", "gltf", Kind.MODEL, structure="model.gltf"),
    MediaType("model/obj", "obj", Kind.MODEL, structure="model.obj"),
    MediaType("model/ply", "ply", Kind.MODEL, structure="model.ply"),
    MediaType("model/fbx", "fbx", Kind.MODEL, structure="model.fbx"),
    MediaType("model/stl", "stl", Kind.MODEL, structure="model.stl"),
    MediaType("model/vnd.usdz+zip", "usdz", Kind.MODEL, structure="archive", prepared_by="model.package"),
    MediaType("model/3mf", "3mf", Kind.MODEL, structure="archive", prepared_by="model.package"),
    MediaType("model/mtl", "mtl", Kind.MODEL, structure="model.mtl"),
    MediaType("model/spz", "spz", Kind.MODEL, structure="model.splats"),
    MediaType("model/splat", "splat", Kind.MODEL, structure="model.splats"),
    MediaType("application/zip", "zip", Kind.ARCHIVE, structure="archive"),
    MediaType("application/json", "json", Kind.TEXT, structure="text.json_file", prepared_by="text.json_file"),
    MediaType("text/vtt", "vtt", Kind.TEXT, structure="text.subtitles"),
    MediaType("application/x-subrip", "srt", Kind.TEXT, structure="text.subtitles"),
    MediaType("text/csv", "csv", Kind.TEXT, structure="text.tables"),
    MediaType("text/plain", "txt", Kind.TEXT, structure="text.plain"),
    MediaType("application/x-safetensors", "safetensors", Kind.DATA, structure="data.safetensors"),
    MediaType("application/x-npy", "npy", Kind.DATA, structure="data.npy", magic=rb"\x93NUMPY[\1-\3]\0"),
    MediaType("application/x-npz", "npz", Kind.DATA, structure="archive", prepared_by="data.npz"),
)
BY_CONTENT_TYPE: Final = {media.content_type: media for media in MEDIA_TYPES}
UNVERIFIED: Final = MediaType("application/octet-stream", "bin", Kind.DATA)
"""The type of files that are stored without a check, with UNSUPPORTED_FILES=keep."""
