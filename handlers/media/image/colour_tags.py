# ruff: noqa: PLR2004 - binary formats are made of figures; each function names the standard that has them
"""The colour space a file tells by numbers instead of a profile: PNG's chunks, the `colr` box of AVIF and HEIC.

libvips reads ICC profiles alone. Browsers follow these numbers too, so what they show is what is stored.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from handlers.media.image.colour import D65, SRGB_PRIMARIES, Space

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
HEAD: Final = 1 << 20
"""As many bytes of an AVIF or HEIC are searched; the boxes that describe come first."""
PRIMARIES: Final = {
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    7: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    11: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), (0.314, 0.351)),
    12: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), D65),
}
"""ITU-T H.273, table 2; any other code is taken for sRGB's."""
GAMMAS: Final = {4: 2.2, 5: 2.8, 8: 1.0}
"""ITU-T H.273, table 3. Every other curve of standard range is taken for sRGB's, as Chromium does."""
HDR: Final = frozenset({16, 18})
"""PQ and HLG: no 8-bit format shows them alike everywhere, so such a picture is kept."""


class HdrError(Exception):
    """The picture is HDR."""


def space_of(source: Path, content_type: str) -> Space | None:
    """Return the space the file's numbers tell of; None for sRGB, and where a profile decides.

    Raises:
        HdrError: it is PQ or HLG.
    """
    if content_type == "image/png":
        return _of_png(source)
    if content_type in {"image/avif", "image/heic"}:
        return _of_boxes(source)
    return None


def is_film(source: Path, content_type: str) -> bool:
    """Whether it is an APNG or an AVIF sequence, of which libvips reads one frame at most."""
    if content_type == "image/png":
        return any(name == b"acTL" for name, _ in chunks(source))
    return content_type == "image/avif" and b"avis" in brands(source)


def brands(source: Path) -> set[bytes]:
    """Return the brands of an AVIF or HEIC (ISO/IEC 14496-12, 4.3)."""
    with source.open("rb") as file:
        head = file.read(256)
    return {head[at : at + 4] for at in range(8, min(int.from_bytes(head[:4], "big"), len(head)), 4)}


def coded(primaries: int, transfer: int) -> Space | None:
    """Return the space of two H.273 codes."""
    if transfer in HDR:
        raise HdrError
    found, white = PRIMARIES.get(primaries, (SRGB_PRIMARIES, D65))
    space = Space(found, white, GAMMAS.get(transfer))
    return None if space == Space() else space


def chunks(source: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield a PNG's chunks before its pixels: name and content."""
    with source.open("rb") as file:
        if file.read(8) != SIGNATURE:
            return
        while len(head := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", head)
            if name in {b"IDAT", b"IEND"}:
                return
            yield name, file.read(size)
            file.seek(4, 1)


def _of_png(source: Path) -> Space | None:
    """Follow the order of the PNG specification, third edition, 4.3: cICP, iCCP, sRGB, then gAMA and cHRM."""
    found = dict(chunks(source))
    if len(found.get(b"cICP", b"")) == 4:
        return coded(*found[b"cICP"][:2])
    if b"iCCP" in found or b"sRGB" in found:
        return None
    return _by_gamma(found.get(b"gAMA", b""), found.get(b"cHRM", b""))


def _by_gamma(gama: bytes, chrm: bytes) -> Space | None:
    """Figures that mean sRGB, written with the tolerance encoders have, are sRGB and cost nothing."""
    gamma = None
    if len(gama) == 4 and 0.01 < (power := int.from_bytes(gama, "big") / 100_000) < 10:
        gamma = None if abs(power / 0.45455 - 1) < 0.05 else 1 / power
    white, primaries = D65, SRGB_PRIMARIES
    if len(chrm) == 32:
        values = [value / 100_000 for value in struct.unpack(">8I", chrm)]
        points = tuple(zip(values[::2], values[1::2], strict=True))
        known = (*D65, *(number for point in SRGB_PRIMARIES for number in point))
        is_srgb = all(abs(one - two) < 0.001 for one, two in zip(known, values, strict=True))
        if not is_srgb and all(y > 0 for _, y in points):
            white, primaries = points[0], points[1:]
    space = Space(primaries, white, gamma)
    return None if space == Space() else space


def _of_boxes(source: Path) -> Space | None:
    """Find `colr` boxes (ISO/IEC 14496-12, 12.1.5); a profile goes before numbers."""
    with source.open("rb") as file:
        head = file.read(HEAD)
    if b"colrprof" in head or b"colrrICC" in head:
        return None
    at = head.find(b"colrnclx")
    return coded(*struct.unpack(">2H", head[at + 8 : at + 12])) if 0 <= at <= len(head) - 12 else None
