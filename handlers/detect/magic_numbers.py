# ruff: noqa: PLR2004 - binary formats consist of numbers; each check names the standard that defines them
"""Detects the types that their first bytes identify: those with `magic` in the registry, and AAC, TIFF and ZIP.

libmagic is not used for them, because its answers change between versions: 5.46 calls every ZIP file
`application/octet-stream`.
"""

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
LOCAL_FILE: Final = b"PK\x03\x04"
EMPTY_ARCHIVE: Final = b"PK\x05\x06"
JAR_EXTRA: Final = b"\xfe\xca"
"""The id of the extra field that marks the first member of a Java archive."""
WEIGHTS: Final = (b"data.pkl", b".npy")
"""Suffixes of the first member's name in ZIP files with weights or embeddings (PyTorch, NumPy); they are not media."""
PACKAGES: Final = (
    *(b"META-INF/", b"AndroidManifest.xml", b"classes.dex", b"resources.arsc", b"Payload/"),  # programs
    *(b"[Content_Types].xml", b"_rels/", b"docProps/", b"customXml/", b"word/", b"xl/", b"ppt/", b"visio/"),  # OOXML
    *(b"mimetype", b"doc.kml"),  # OpenDocument and EPUB; KMZ
)
"""Prefixes of the first member's name in Java, Android and iOS programs, in documents and in maps."""


def by_magic_number(head: bytes) -> str | None:
    """Return the type that the first bytes identify, or None."""
    return next((name for number, name in NUMBERS if number.match(head)), None) or _adts(head)


def is_tiff(head: bytes) -> bool:
    """Whether the file begins like a TIFF file. Raw camera files do, too: check for those with libmagic first."""
    return TIFF.match(head) is not None and head[8:10] != CANON_RAW


def plain_zip(head: bytes) -> str | None:
    """Return the type of a ZIP file. None for other files, and for weights, programs and documents in ZIP format.

    They are distinguished by the first member's name (APPNOTE, 4.3.7).
    """
    if head[:4] == EMPTY_ARCHIVE:
        return "application/zip"
    if head[:4] != LOCAL_FILE or len(head) < 30:
        return None
    end = 30 + int.from_bytes(head[26:28], "little")
    name = head[30:end]
    is_special = name.endswith(WEIGHTS) or name.startswith(PACKAGES) or head[end : end + 2] == JAR_EXTRA
    return None if is_special else "application/zip"


def _adts(head: bytes) -> str | None:
    """Detect an AAC stream by a frame header whose fields are all valid (ISO/IEC 13818-7, 6.2)."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    frame_length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    is_valid = head[2] >> 2 & 15 < 13 and frame_length >= 7
    return "audio/aac" if is_valid else None
