"""How coarsely a JPEG is quantized: the sum of each quantization table, compared with those of libjpeg at a quality.

Encoders choose different tables for the same quality, so single entries say nothing.
"""

import itertools
from pathlib import Path
from typing import Final

from handlers.media.formats import Content, Part, jpeg, mapped

# fmt: off
LUMINANCE: Final = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)
CHROMINANCE: Final = (
    17, 18, 24, 47, 18, 21, 26, 66, 24, 26, 56, 99, 47, 66, 99, 99, *[99] * 48,
)
# fmt: on
"""ITU-T T.81, tables K.1 and K.2. Their order does not matter, since they are only added up."""
COEFFICIENTS: Final = 64
TABLES: Final = b"\xdb"
FRAMES: Final = frozenset(bytes([marker]) for marker in range(0xC0, 0xD0)) - {b"\xc4", b"\xc8", b"\xcc"}
COMPONENTS: Final = 5
"""Offset in a frame header of the number of components. Three bytes of each follow; the third is the number of its
quantization table."""


def is_coarse(source: Path, quality: int) -> bool:
    """Whether the image is quantized as coarsely as libjpeg does at this quality, or more coarsely.

    The structure of the file must have been checked.
    """
    with mapped(source) as content:
        sums, components = _read(content)
    if not components or any(table not in sums for table in components):
        return False
    first, *others = components
    return sums[first] >= _sum_at(LUMINANCE, quality) and all(
        sums[table] >= _sum_at(CHROMINANCE, quality) for table in others
    )


def _sum_at(table: tuple[int, ...], quality: int) -> int:
    """Return the sum of a table after libjpeg has scaled it to a quality."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality  # noqa: PLR2004 - libjpeg's formula
    return sum(min(max((value * scale + 50) // 100, 1), 255) for value in table)


def _read(content: Content) -> tuple[dict[int, int], list[int]]:
    """Read the segments before the first scan; return the sum of each table by number, and each component's table."""
    sums: dict[int, int] = {}
    components: list[int] = []
    for segment in itertools.takewhile(lambda part: part.kind != jpeg.START_OF_SCAN, jpeg.segments(content)):
        if segment.kind == TABLES:
            sums |= _sums(content, segment)
        elif segment.kind in FRAMES:
            body = content[segment.body : segment.body_end]
            count = body[COMPONENTS] if len(body) > COMPONENTS else 0
            components = list(body[COMPONENTS + 3 : COMPONENTS + 3 * count + 1 : 3])
    return sums, components


def _sums(content: Content, segment: Part) -> dict[int, int]:
    """Return the sum of each quantization table of a segment, by number. Entries have one or two bytes."""
    sums, at = {}, segment.body
    while at < segment.body_end:
        precision, number = divmod(content[at], 16)
        size = COEFFICIENTS * (2 if precision else 1)
        entries = content[at + 1 : at + 1 + size]
        sums[number] = 256 * sum(entries[::2]) + sum(entries[1::2]) if precision else sum(entries)
        at += 1 + size
    return sums
