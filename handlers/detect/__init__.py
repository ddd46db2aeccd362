"""What a file is, decided from its content alone.

Our own signatures decide for every type that is stored, so that no version of libmagic changes what is stored. libmagic
names the rest: files that are refused, and variants that our signatures leave to it.

The first 4 KiB decide as well as the whole file. Whether the file is sound is not judged here; decoding does that.
"""

from dataclasses import dataclass
from typing import Final

import magic

from handlers.detect.magic_numbers import is_tiff
from handlers.detect.signatures import UNKNOWN, by_signature
from handlers.media import BY_CONTENT_TYPE, MediaType

ALIASES: Final = {
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-hx-aac-adts": "audio/aac",
    "audio/x-hx-aac-adif": "audio/aac",
    "audio/mp3": "audio/mpeg",
    "application/ogg": UNKNOWN,  # it has no stream we know, or _ogg had named it
    "video/x-m4v": "video/mp4",
    "image/heif": "image/heic",
    "application/zip": UNKNOWN,  # plain_zip had named one that is stored
}
"""libmagic's names for types the registry knows by another."""

UNRECOGNIZED: Final = frozenset({UNKNOWN, "text/plain"})
"""What libmagic says of a file that it does not know."""


@dataclass(frozen=True, slots=True)
class DetectedType:
    """What the content is: `media` where Outlast stores such files, and the MIME type it looks like in any case."""

    media: MediaType | None
    mime_type: str


def detect(head: bytes, url: str | None = None) -> DetectedType:  # noqa: ARG001 - the API passes it; names prove nothing
    """Decide what a file is from its first bytes (4 KiB or more, or all of a smaller file)."""
    sniffed = by_signature(head) or _by_libmagic(head)
    return DetectedType(BY_CONTENT_TYPE.get(sniffed), sniffed)


def _by_libmagic(head: bytes) -> str:
    name = str(magic.from_buffer(head, mime=True)) if head else "application/x-empty"
    name = ALIASES.get(name, name)
    return "image/tiff" if name in UNRECOGNIZED and is_tiff(head) else name
