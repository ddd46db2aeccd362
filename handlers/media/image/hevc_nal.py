"""What is damaged in a HEIC's pixels, as far as HEVC lets anybody tell: libheif's decoder conceals it.

HEVC has no checksum, but its units never hold certain bytes (ITU-T H.265, 7.4.2.1): wherever zeros took the place of
pixels, or units do not end where their lengths say, the picture is not what its maker wrote.
"""

import re
import struct
from pathlib import Path
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.metadata.heif_items import boxes, kinds, places

FORBIDDEN: Final = re.compile(rb"\0\0[\0-\2]")
PADDING: Final = 3
"""Zeros that careless writers leave at a unit's end."""
LENGTH_SIZE: Final = 21
"""Where `hvcC` tells how long a unit's length is (ISO/IEC 14496-15, 8.3.3.1.2)."""
TILE: Final = b"hvc1"


def check_units(source: Path) -> None:
    """Walk the units of every coded picture and tile; a file whose tables cannot be read is left to libheif.

    Raises:
        FileCorruptedError: a unit is damaged.
    """
    content = source.read_bytes()
    for kind, start, end in boxes(content, 0, len(content)):
        if kind == b"meta":
            try:
                found = _coded(content, start + 4, end)
            except (struct.error, KeyError, IndexError, ValueError):
                return
            for units, width in found:
                _check(units, width)


def _coded(content: bytes, start: int, end: int) -> list[tuple[bytes, int]]:
    """Return the pictures' and tiles' bytes, with the size of their units' lengths."""
    tables = {kind: (first, last) for kind, first, last in boxes(content, start, end)}
    widths = {
        content[found.end() + LENGTH_SIZE] % 4 + 1
        for found in re.finditer(b"hvcC", content[:end])
        if found.end() > start
    }
    if len(widths) != 1:
        raise ValueError("the units' lengths are told in several ways")
    types = dict(kinds(content, *tables[b"iinf"]))
    (width,) = widths
    return [
        (b"".join(content[place : place + size] for place, size in extents), width)
        for item, method, extents in places(content, *tables[b"iloc"])
        if types.get(item) == TILE and method == 0
    ]


def _check(units: bytes, width: int) -> None:
    at = 0
    while at < len(units):
        start = at + width
        at = start + int.from_bytes(units[at:start], "big")
        if at == start or at > len(units) or FORBIDDEN.search(units, start, at - PADDING):
            raise FileCorruptedError(
                f"the content does not decode whole: it is damaged {start:,} bytes into its pixels"
            )
