# ruff: noqa: PLR2004 - ISO/IEC 14496-12, 4.2 and 8.11, has the figures
"""Boxes and items of HEIC and AVIF: which there are, and where in the file they lie."""

import struct
from collections.abc import Iterator


def boxes(content: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each box's body; a box of 64-bit length or to the end of the file too."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, start)
            start += 8
        size = size or end - at
        if size < start - at or at + size > end:
            return
        yield kind, start, at + size
        at += size


def kinds(content: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield each item's number and type (`infe`, versions 2 and 3)."""
    wide = content[start] > 0
    for kind, at, _ in boxes(content, start + (8 if wide else 6), end):
        if kind == b"infe" and content[at] >= 2:
            form = ">I2x4s" if content[at] > 2 else ">H2x4s"
            yield struct.unpack_from(form, content, at + 4)


def places(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Yield each item's number, construction method and extents (`iloc`, versions 0 to 2)."""
    version, sizes = content[start], struct.unpack_from(">H", content, start + 4)[0]
    widths = [sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15 if version else 0]
    at = start + 6

    def number(width: int) -> int:
        nonlocal at
        at += width
        if at > end:
            raise ValueError("the table of items is cut short")
        return int.from_bytes(content[at - width : at], "big")

    for _ in range(number(4 if version > 1 else 2)):
        item = number(4 if version > 1 else 2)
        method = number(2) & 15 if version else 0
        number(2)  # the data reference: this very file
        base = number(widths[2])
        extents = []
        for _ in range(number(2)):
            number(widths[3])
            place, size = number(widths[0]), number(widths[1])
            extents.append((base + place, size))
        yield item, method, extents
