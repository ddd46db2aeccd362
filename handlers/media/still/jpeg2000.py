# ruff: noqa: PLR2004 - binary formats consist of numbers; ISO/IEC 15444-1 (A.4 and I.5) defines them
"""JPEG 2000 in its own file format: boxes, and a codestream whose tile parts declare their lengths."""

from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content, isobmff

START, TILE_PART, DATA, END = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9
"""Markers of a codestream: SOC, SOT, SOD, EOC."""
CODESTREAM: Final = b"jp2c"
HEADER: Final = b"jp2h"
MAX_TILE_PARTS: Final = 1 << 20


def check_content(content: Content) -> int:
    """Check the boxes and the tile parts; return where the last box ends.

    If the box of the codestream has no length of its own, return where the codestream ends.

    Raises:
        FileCorruptedError: the header or the codestream is missing, a tile part is incomplete, or the codestream has no
            end.
    """
    kinds, at = set(), 0
    for box in isobmff.boxes(content, 0, len(content)):
        if box.start and not box.kind.strip().isalnum():
            break
        kinds.add(box.kind)
        at = box.end
        if box.kind == CODESTREAM:
            end = _check_codestream(content, box.body, box.body_end)
            at = end if content[box.start : box.start + 4] == bytes(4) else at  # length 0: up to the end of the file
    if not kinds >= {HEADER, CODESTREAM}:
        raise FileCorruptedError("the image is not complete: it has no header or no codestream")
    return at


def _check_codestream(content: Content, at: int, end: int) -> int:
    """Follow the marker segments and tile parts by their lengths; return where the codestream ends."""
    if _number(content, at, 2) != START:
        raise FileCorruptedError("the codestream of the image does not begin with its marker")
    at += 2
    for _ in range(MAX_TILE_PARTS):
        if at + 2 > end:
            break
        marker = _number(content, at, 2)
        if marker == END:
            return at + 2
        if marker == TILE_PART:
            size = _number(content, at + 6, 4)
            at = at + size if size else end - 2  # the last part may extend to the end
            continue
        size = _number(content, at + 2, 2)
        if marker < 0xFF00 or size < 2:
            break
        at += 2 + size
    raise FileCorruptedError(f"the codestream of the image has no end: it is damaged or cut at byte {at:,}")


def _number(content: Content, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "big")
