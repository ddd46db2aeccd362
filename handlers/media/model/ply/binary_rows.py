"""The rows of an element of a binary PLY file.

Rows whose lists have the same lengths, such as triangles, have the same layout. A regular expression finds successive
rows of up to MAX_LAYOUTS layouts, and those of each layout are unpacked together.
"""

import functools
import math
import re
import struct
from itertools import chain
from typing import Final, NamedTuple

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.model.ply.rows import COORDINATES, FLOATS, Element, check_corners, check_length

MAX_ROWS, MAX_BYTES = 4096, 1 << 20
"""Rows that are unpacked at once, and their bytes; a single row may be larger."""
MAX_LAYOUTS: Final = 8
"""Maximum number of layouts of an element that one pattern finds. Rows of others are unpacked one by one."""
Lengths = tuple[int, ...]


class _PackedRows(NamedTuple):
    """The layout of rows whose lists have the same lengths: the bytes of a row, a pattern, and the corners, if any.

    `has_fractions`: corners are stored as floats, so they may have fractions.
    """

    row_bytes: int
    pattern: bytes
    corners: struct.Struct | None
    has_fractions: bool


def check_rows(content: Content, start: int, element: Element, vertices: int, order: str) -> int:
    """Check the rows of an element that begin at an offset; return where the last one ends.

    `order`: the byte order, as `struct` writes it.

    Raises:
        FileCorruptedError: rows are missing, a face has too few corners, or a corner is none of the vertices; or a
            coordinate of a vertex is not finite, which is checked only if vertices have no lists.
    """
    if not any(property_.length for property_ in element.properties):
        return _check_scalars(content, start, element, order)
    properties = tuple((each.length, each.item, each.has_corners) for each in element.properties)
    left = element.count
    layouts: dict[int, _PackedRows] = {}
    while left:
        layout = _layout(properties, _read_lengths(content, start, element, order), order)
        if len(layouts) < MAX_LAYOUTS:
            layouts.setdefault(layout.row_bytes, layout)
        if layouts.get(layout.row_bytes) == layout:
            rows = _find_rows(content, start, tuple(layouts.values()))[:left]
            _check_lists(rows, list(layouts.values()), vertices)
        else:
            rows = [content[start : start + layout.row_bytes]]
            _check_lists(rows, [layout], vertices)
        left -= len(rows)
        start += sum(map(len, rows))
    return start


def _check_lists(rows: list[bytes], layouts: list[_PackedRows], vertices: int) -> None:
    """Check the corners in rows of these layouts. The size of a row tells its layout."""
    for layout in layouts:
        if layout.corners:
            same = rows if len(layouts) == 1 else [row for row in rows if len(row) == layout.row_bytes]
            _check_corners(b"".join(same), layout.corners, vertices, has_fractions=layout.has_fractions)


def _check_scalars(content: Content, start: int, element: Element, order: str) -> int:
    """Check rows without lists: none is missing, coordinates of vertices are finite. Return where the last one ends."""
    size = struct.calcsize(order + "".join(property_.item for property_ in element.properties))
    end = _check_bound(content, start + element.count * size, element)
    layout = order + "".join(
        each.item if each.name in COORDINATES else f"{struct.calcsize(order + each.item)}x"
        for each in element.properties
    )
    if element.name == "vertex":
        numbers = struct.iter_unpack(layout, content[start:end])
        if not math.isfinite(sum(map(sum, numbers))):
            raise FileCorruptedError("a vertex of the model is not finite")
    return end


def _read_lengths(content: Content, at: int, element: Element, order: str) -> Lengths:
    """Return the lengths of the lists of a row, after a check that they are plausible and that the row is there."""
    lengths = []
    for property_ in element.properties:
        items = 1
        if property_.length:
            size = struct.calcsize(order + property_.length)
            at = _check_bound(content, at + size, element)
            (items,) = struct.unpack(order + property_.length, content[at - size : at])
            check_length(property_, items)
            lengths.append(items)
        at = _check_bound(content, at + items * struct.calcsize(order + property_.item), element)
    return tuple(lengths)


@functools.lru_cache(maxsize=1024)
def _layout(properties: tuple[tuple[str | None, str, bool], ...], lengths: Lengths, order: str) -> _PackedRows:
    row_bytes, pattern, corners, has_fractions = 0, b"", order, False
    remaining = iter(lengths)
    for length, item, is_corners in properties:
        items = 1
        if length:
            items = next(remaining)
            packed = struct.pack(order + length, items)
            pattern += re.escape(packed)
            corners += f"{len(packed)}x"
            row_bytes += len(packed)
        size = items * struct.calcsize(order + item)
        pattern += b"[\\0-\\xff]{%d}" % size
        corners += f"{items}{item}" if is_corners else f"{size}x"
        has_fractions = has_fractions or (is_corners and item in FLOATS)
        row_bytes += size
    has_corners = any(each for _, _, each in properties)
    return _PackedRows(row_bytes, pattern, struct.Struct(corners) if has_corners else None, has_fractions)


def _find_rows(content: Content, start: int, layouts: tuple[_PackedRows, ...]) -> list[bytes]:
    """Return the rows with these layouts that follow each other: at least one, and at most MAX_ROWS."""
    one, several = _patterns(layouts)
    run = several.match(content, start)
    return one.findall(run[0]) if run else []


@functools.lru_cache(maxsize=64)
def _patterns(layouts: tuple[_PackedRows, ...]) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    one = b"|".join(layout.pattern for layout in layouts)
    most = max(1, min(MAX_ROWS, MAX_BYTES // max(layout.row_bytes for layout in layouts)))
    return re.compile(one), re.compile(b"(?:%b){1,%d}" % (one, most))


def _check_corners(rows: bytes, layout: struct.Struct, vertices: int, *, has_fractions: bool) -> None:
    corners = list(chain.from_iterable(layout.iter_unpack(rows)))
    check_corners(min(corners, default=0), max(corners, default=0), vertices)
    if has_fractions and any(corner % 1 for corner in corners):
        raise FileCorruptedError("a face of the model has a corner that is no whole number")


def _check_bound(content: Content, at: int, element: Element) -> int:
    if at > len(content):
        raise FileCorruptedError(f"the model ends in the middle of its {element.count:,} {element.name} rows")
    return at
