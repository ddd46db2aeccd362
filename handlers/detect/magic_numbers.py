# ruff: noqa: PLR2004 - binary formats consist of numbers; each check names the standard that defines them
"""Detects the types that their first bytes identify: those with `magic` in the registry, and AAC and TIFF."""

import re
from typing import Final

from handlers.media import MEDIA_TYPES

NUMBERS: Final = tuple(
    (re.compile(media.magic, re.DOTALL), media.content_type) for media in MEDIA_TYPES if media.magic is not None
)
TIFF: Final = re.compile(rb"II\x2a\0|MM\0\x2a|II\x2b\0\x08\0\0\0|MM\0\x2b\0\x08\0\0")
"""TIFF 6.0, section 2, and BigTIFF."""
CANON_RAW: Final = b"CR"
"""The bytes at offset 8 of Canon's raw files, which are TIFF files in every other respect."""


def by_magic_number(head: bytes) -> str | None:
    """Return the type that the first bytes identify, or None."""
    return next((name for number, name in NUMBERS if number.match(head)), None) or _adts(head)


def is_tiff(head: bytes) -> bool:
    """Whether the file begins like a TIFF file. Raw camera files do, too: check for those with libmagic first."""
    return TIFF.match(head) is not None and head[8:10] != CANON_RAW


def _adts(head: bytes) -> str | None:
    """Detect an AAC stream by a frame header whose fields are all valid (ISO/IEC 13818-7, 6.2)."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    frame_length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    is_valid = head[2] >> 2 & 15 < 13 and frame_length >= 7
    return "audio/aac" if is_valid else None
