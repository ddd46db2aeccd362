"""Detects a file's type from its content alone.

Our own signatures come first and detect every type that is stored, so the version of libmagic hardly matters.
libmagic only sees the files that no signature matches: types that are not stored, and rare variants of stored types.

HEAD_BYTES suffice for most files. More bytes help for text that begins with a long comment, such as an OBJ model.
Whether the file is valid is checked later, by decoding it.
"""

from dataclasses import dataclass
from typing import Final

from handlers.detect.magic_numbers import is_tiff
from handlers.detect.signatures import UNKNOWN, by_signature
from handlers.media import BY_CONTENT_TYPE, Kind, MediaType

ALIASES: Final = {
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-hx-aac-adts": "audio/aac",
    "audio/x-hx-aac-adif": "audio/aac",
    "audio/mp3": "audio/mpeg",
    "application/ogg": UNKNOWN,  # `_ogg` detects the Ogg files that are stored
    "video/x-m4v": "video/mp4",
    "image/heif": "image/heic",
    "application/zip": UNKNOWN,  # `zip_type` detects the ZIP files that are stored
}
"""libmagic's names for types that have another name in the registry, and names that are too general."""

ONLY_BY_SIGNATURE: Final = frozenset({Kind.MODEL, Kind.TEXT, Kind.DATA})
"""Kinds that are stored only if a signature matches: libmagic also answers `text/plain` for text that is not UTF-8."""
UNRECOGNIZED: Final = frozenset({UNKNOWN, "text/plain"})
"""libmagic's answers for a file that it does not recognize."""


@dataclass(frozen=True, slots=True)
class DetectedType:
    """The detected type. `media` is its entry in the registry of `handlers.media`, or None if it is not stored."""

    media: MediaType | None
    mime_type: str


def detect(head: bytes, url: str | None = None) -> DetectedType:  # noqa: ARG001 - see below
    """Detect a file's type from its first HEAD_BYTES or more, or from the whole of a smaller file.

    The URL is ignored, because its file name proves nothing. The public API passes it.
    """
    if (mime_type := by_signature(head)) is not None:
        return DetectedType(BY_CONTENT_TYPE.get(mime_type), mime_type)
    mime_type = _by_libmagic(head)
    media = BY_CONTENT_TYPE.get(mime_type)
    return DetectedType(None if media is None or media.kind in ONLY_BY_SIGNATURE else media, mime_type)


def _by_libmagic(head: bytes) -> str:
    import magic  # noqa: PLC0415 - codec processes import this package for its signatures, and not libmagic

    name = str(magic.from_buffer(head, mime=True)) if head else "application/x-empty"
    name = ALIASES.get(name, name)
    return "image/tiff" if name in UNRECOGNIZED and is_tiff(head) else name
