# ruff: noqa: PLR2004 - ISO/IEC 14496-12 (4.2, 4.3 and 8.11) defines the numbers
"""The ISO base media file format (MP4, MOV, M4A, HEIC, AVIF): boxes, and the items of HEIC and AVIF.

A file that was cut in the middle still opens, and players show what is left. Only the boxes show that data is missing.
"""

import struct
from collections.abc import Iterator
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content, Part

HEADER_BYTES: Final = 8
TOP_LEVEL: Final = frozenset(
    b"ftyp pdin moov moof mfra mdat free skip meta meco styp sidx ssix prft emsg uuid udta wide pnot idat".split()
)
"""Boxes of the outermost level (ISO/IEC 14496-12, 6.2.3; QuickTime). After the media data, anything else that goes
beyond the end of the file is a tail, not a box."""
MAX_BRANDS_END: Final = 256


def check_content(content: Content) -> int:
    """Check the outermost boxes and return where the last one ends.

    Raises:
        FileCorruptedError: a box is incomplete, or the box that describes the content (`moov`, `meta`) is missing.
    """
    kinds = set()
    at = 0
    for box in boxes(content, 0, len(content)):
        if box.kind not in TOP_LEVEL and content[box.start : box.start + 4] == bytes(4):
            break  # only known boxes may extend to the end of the file; these zeros begin a tail
        kinds.add(box.kind)
        at = box.end
    kind = bytes(content[at + 4 : at + 8])
    if at + HEADER_BYTES <= len(content) and (kind in TOP_LEVEL or b"mdat" not in kinds):
        raise FileCorruptedError(f"the file ends in the middle of its {kind!r} box, at {len(content):,} bytes")
    if not kinds & {b"moov", b"meta"}:
        raise FileCorruptedError("the file has no moov or meta box: it is not complete")
    return at


def boxes(content: Content, start: int, end: int) -> Iterator[Part]:
    """Yield the boxes between two offsets; stop before the first one that does not end there."""
    while start + HEADER_BYTES <= end:
        length, kind = int.from_bytes(content[start : start + 4], "big"), bytes(content[start + 4 : start + 8])
        body = start + HEADER_BYTES
        if length == 1:  # a length of 64 bits follows
            length = int.from_bytes(content[body : body + 8], "big")
            body += 8
        elif length == 0:  # up to the end
            length = end - start
        if length < body - start or start + length > end:
            return
        yield Part(kind, start, body, start + length, start + length)
        start += length


def brands(content: Content) -> set[bytes]:
    """Return the major and the compatible brands of a file (and, between them, the bytes of the minor version)."""
    end = min(int.from_bytes(content[:4], "big"), len(content), MAX_BRANDS_END)
    return {bytes(content[at : at + 4]) for at in range(8, end, 4)}


def meta_boxes(content: Content) -> Iterator[dict[bytes, Part]]:
    """Yield the boxes inside each outermost `meta` box by type."""
    for box in boxes(content, 0, len(content)):
        if box.kind == b"meta":  # four bytes of version and flags come first
            yield {child.kind: child for child in boxes(content, box.body + 4, box.body_end)}


def properties(content: Content, meta: dict[bytes, Part]) -> Iterator[Part]:
    """Yield the property boxes of all items (`ipco` in `iprp`)."""
    for container in boxes(content, meta[b"iprp"].body, meta[b"iprp"].body_end) if b"iprp" in meta else ():
        if container.kind == b"ipco":
            yield from boxes(content, container.body, container.body_end)


def item_types(content: Content, iinf: Part) -> dict[int, bytes]:
    """Return the type of each item by its number (`infe`, versions 2 and 3)."""
    types = {}
    fields = 8 if content[iinf.body] > 0 else 6
    for box in boxes(content, iinf.body + fields, iinf.body_end):
        version = content[box.body]
        if box.kind == b"infe" and version >= 2:
            item, kind = struct.unpack_from(">I2x4s" if version > 2 else ">H2x4s", content, box.body + 4)
            types[item] = kind
    return types


def item_locations(content: Content, iloc: Part) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Yield number, construction method and extents (offset, size) of each item (`iloc`, versions 0 to 2).

    Raises:
        ValueError: the table is incomplete.
    """
    version, sizes = content[iloc.body], struct.unpack_from(">H", content, iloc.body + 4)[0]
    offset_width, length_width, base_width = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_width = sizes & 15 if version else 0
    at = iloc.body + 6

    def number(width: int) -> int:
        nonlocal at
        at += width
        if at > iloc.body_end:
            raise ValueError("the table of items is incomplete")
        return int.from_bytes(content[at - width : at], "big")

    for _ in range(number(4 if version > 1 else 2)):
        item = number(4 if version > 1 else 2)
        method = number(2) & 15 if version else 0
        number(2)  # the data reference: always this file
        base = number(base_width)
        extents = []
        for _ in range(number(2)):
            number(index_width)
            offset, size = number(offset_width), number(length_width)
            extents.append((base + offset, size))
        yield item, method, extents
