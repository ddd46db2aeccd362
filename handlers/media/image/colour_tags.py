# ruff: noqa: PLR2004 - binary formats consist of numbers; each function names the standard that defines them
"""Colour spaces that a file describes by numbers instead of an ICC profile: chunks of PNG, `colr` of AVIF and HEIC.

libvips reads ICC profiles only. Browsers use these numbers as well, so they are applied when an image is encoded.
"""

import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import isobmff, mapped, png
from handlers.media.image.colour import D65, SRGB_PRIMARIES, Curve, Point, Space

MIN_TRIANGLE: Final = 0.001
"""Least area of the triangle of primaries, doubled. That of sRGB is 0.22."""
PNG_TAGS: Final = frozenset({b"acTL", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"})
ILLUMINANT_C: Final[Point] = (0.310, 0.316)
PRIMARIES: Final = {
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), ILLUMINANT_C),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    7: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    8: (((0.681, 0.319), (0.243, 0.692), (0.145, 0.049)), ILLUMINANT_C),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    10: (((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)), (1 / 3, 1 / 3)),  # XYZ
    11: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), (0.314, 0.351)),
    12: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), D65),
    22: (((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)), D65),
}
"""Red, green and blue, and white, by code (ITU-T H.273, table 2). Any other code is treated as sRGB."""
CURVES: Final = {
    4: Curve(2.2),
    5: Curve(2.8),
    7: Curve(1 / 0.45, offset=0.1115, slope=0.25, linear_below=0.0913),
    8: Curve(1.0),
    17: Curve(2.6, scale=52.37 / 48),
}
"""Curves by code (ITU-T H.273, table 3). Any other code, unless it is HDR, is treated as sRGB, as in Chromium for
AVIF."""
PNG_CURVES: Final = CURVES | dict.fromkeys((1, 6, 11, 14, 15), Curve(2.4))
"""The same for PNG, where Chromium uses the curve of displays (BT.1886) for BT.709 and similar codes."""
HDR: Final = frozenset({16, 18})
"""The codes of PQ and HLG. Viewers show such an image differently in every 8-bit format, so the original is kept."""


class HdrError(Exception):
    """The image is HDR."""


def space_of(source: Path, content_type: str) -> Space | None:
    """Return the colour space that a PNG, AVIF or HEIC file describes by numbers.

    Return None if the space is sRGB, the file has no such numbers, or an ICC profile takes precedence. In a PNG, a cICP
    chunk takes precedence over the profile.

    Raises:
        HdrError: the space is PQ or HLG.
    """
    if content_type == "image/png":
        return _space_of_png(read_png_tags(source))
    if content_type in {"image/avif", "image/heic"}:
        return _space_of_boxes(source)
    return None


def brands(source: Path) -> set[bytes]:
    """Return the brands of an AVIF or HEIC file (ISO/IEC 14496-12, 4.3)."""
    with mapped(source) as content:
        return isobmff.brands(content)


def read_png_tags(source: Path) -> dict[bytes, bytes]:
    """Return the bodies of the chunks before the pixels, by type, for the types in PNG_TAGS.

    Damaged chunks are left out.
    """
    tags = {}
    with suppress(FileCorruptedError), mapped(source) as content:
        for chunk in png.chunks(content):
            if chunk.kind == b"IDAT":
                break
            if chunk.kind in PNG_TAGS and not png.is_damaged(content, chunk):
                tags[chunk.kind] = content[chunk.body : chunk.body_end]
    return tags


def space_of_codes(primaries: int, transfer: int, *, curves: dict[int, Curve]) -> Space | None:
    """Return the colour space of two codes of H.273; None for sRGB. `curves` has the curves by `transfer` code.

    Raises:
        HdrError: `transfer` is PQ or HLG.
    """
    if transfer in HDR:
        raise HdrError
    points, white = PRIMARIES.get(primaries, (SRGB_PRIMARIES, D65))
    return _unless_srgb(Space(points, white, curves.get(transfer)))


def _space_of_png(tags: dict[bytes, bytes]) -> Space | None:
    """Read the chunks in the order of the PNG specification, third edition, 4.3: cICP, iCCP, sRGB, gAMA with cHRM."""
    if len(tags.get(b"cICP", b"")) == 4:
        return space_of_codes(*tags[b"cICP"][:2], curves=PNG_CURVES)
    if b"iCCP" in tags or b"sRGB" in tags:
        return None
    return _space_of_gamma(tags.get(b"gAMA", b""), tags.get(b"cHRM", b""))


def _space_of_gamma(gama: bytes, chrm: bytes) -> Space | None:
    """Return the colour space of the chunks gAMA and cHRM; None for sRGB, and without a valid gAMA, as in Chromium.

    Values near those of sRGB are treated as sRGB, because encoders round them.
    """
    power = int.from_bytes(gama, "big") / 100_000
    if len(gama) != 4 or not 0.01 < power < 10:
        return None
    found = _primaries_of(chrm)
    if found is not None:
        white, *primaries = found
        return Space(tuple(primaries), white, Curve(1 / power))
    return None if abs(power / 0.45455 - 1) < 0.05 else Space(curve=Curve(1 / power))


def _primaries_of(chrm: bytes) -> tuple[Point, ...] | None:
    """Return white, red, green and blue of a cHRM chunk; None if the chunk is not valid, or the values are sRGB's."""
    if len(chrm) != 32:
        return None
    values = [value / 100_000 for value in struct.unpack(">8I", chrm)]
    srgb = (*D65, *(number for point in SRGB_PRIMARIES for number in point))
    is_srgb = all(abs(a - b) < 0.001 for a, b in zip(srgb, values, strict=True))
    points = tuple(zip(values[::2], values[1::2], strict=True))
    return points if not is_srgb and all(y > 0 for _, y in points) and _span_colours(*points[1:]) else None


def _span_colours(red: Point, green: Point, blue: Point) -> bool:
    """Whether the primaries are the corners of a triangle. If they lie on one line, no colour can be converted."""
    (red_x, red_y), (green_x, green_y), (blue_x, blue_y) = red, green, blue
    return abs((green_x - red_x) * (blue_y - red_y) - (blue_x - red_x) * (green_y - red_y)) > MIN_TRIANGLE


def _space_of_boxes(source: Path) -> Space | None:
    """Read the `colr` boxes (ISO/IEC 14496-12, 12.1.5). An ICC profile takes precedence over numbers."""
    with mapped(source) as content:
        tags = [
            content[box.body : min(box.body + 8, box.body_end)]
            for meta in isobmff.meta_boxes(content)
            for box in isobmff.properties(content, meta)
            if box.kind == b"colr"
        ]
    if any(tag[:4] in {b"prof", b"rICC"} for tag in tags):
        return None
    codes = next((tag[4:] for tag in tags if tag[:4] == b"nclx" and len(tag) == 8), None)
    return space_of_codes(*struct.unpack(">2H", codes), curves=CURVES) if codes else None


def _unless_srgb(space: Space) -> Space | None:
    return None if space == Space() else space
