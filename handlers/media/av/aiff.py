"""AIFF and AIFF-C: big-endian chunks inside one `FORM` chunk (Apple, Audio Interchange File Format 1.3)."""

import struct
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

HEADER: Final = struct.Struct(">4sI")
FORM_BYTES: Final = 12
REQUIRED: Final = frozenset({b"COMM", b"SSND"})


def check_content(content: Content) -> int:
    """Check every chunk; return where the outer one ends.

    Raises:
        FileCorruptedError: a chunk is incomplete, or the format or the sound is missing.
    """
    if len(content) < FORM_BYTES:
        raise FileCorruptedError("the file ends in the middle of its header")
    end = HEADER.size + int.from_bytes(content[4:8], "big")
    if end > len(content):
        raise FileCorruptedError(f"the file declares {end:,} bytes and has {len(content):,}")
    kinds, at = set(), FORM_BYTES
    while at + HEADER.size <= end:
        kind, size = HEADER.unpack(content[at : at + HEADER.size])
        kinds.add(kind)
        if at + HEADER.size + size > end:
            raise FileCorruptedError(f"the file's {kind!r} chunk goes beyond its end")
        at += HEADER.size + size + size % 2
    if not kinds >= REQUIRED:
        raise FileCorruptedError("the file declares no format or has no sound")
    return end
