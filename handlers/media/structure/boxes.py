"""The boxes of ISO media files (MP4, MOV, M4A, HEIC, AVIF): whether they are all there.

A file that was cut in the middle still opens, and players show what is left; only the boxes tell that something lacks.
"""

from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

HEAD: Final = 8
LONG_HEAD: Final = 16
LONG, TO_THE_END = 1, 0
KNOWN: Final = frozenset(
    b"ftyp pdin moov moof mfra mdat free skip meta meco styp sidx ssix prft emsg uuid udta wide pnot idat".split()
)
"""Boxes of the outermost level (ISO/IEC 14496-12, 6.2.3; QuickTime). What goes
beyond the file behind all content, and is none, is a tail."""


def end(content: Content) -> int:
    """Walk the outermost boxes (ISO/IEC 14496-12, 4.2) and return where the last one ends.

    Raises:
        FileCorruptedError: a box is cut short, or the one that describes the content (`moov`, `meta`) is missing.
    """
    found = set()
    at = 0
    while at + HEAD <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), bytes(content[at + 4 : at + 8])
        head = HEAD
        if length == LONG:
            length, head = int.from_bytes(content[at + 8 : at + 16], "big"), LONG_HEAD
        elif length == TO_THE_END and kind in KNOWN:
            length = len(content) - at
        if length < head or at + length > len(content):
            if kind in KNOWN or b"mdat" not in found:
                raise FileCorruptedError(f"the file ends in the middle of its {kind!r} box, at {len(content):,} bytes")
            break
        found.add(kind)
        at += length
    if not found & {b"moov", b"meta"}:
        raise FileCorruptedError("the file has no moov or meta box: it is not complete")
    return at
