"""HDR video as a picture that every screen shows: PQ and HLG mapped to sRGB (ITU-R BT.2100, BT.2390 and BT.2408).

Brightness up to 92 cd/m2 is not changed. Brighter values are compressed so that PEAK becomes white. Tables of 65,536
values do most of the work; a picture of 1080p takes 0.2 s, with HLG 0.3 s.
"""

import math
from collections.abc import Callable
from typing import Final

import pyvips

from handlers.media.image.colour import Point, matrix_to_srgb

PQ: Final = 16
HLG: Final = 18
"""ITU-T H.273, table 3."""
WHITE: Final = 203.0
"""Brightness of sRGB's white in cd/m2, which is that of HDR reference white (BT.2408)."""
PEAK: Final = 1000.0
"""Brightness in cd/m2 from which on everything becomes white. Many films are mastered for it."""
PQ_MAX: Final = 10_000.0
M1, M2 = 2610 / 16384, 2523 / 4096 * 128
C1, C2, C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
HLG_A, HLG_B, HLG_C = 0.17883277, 0.28466892, 0.55991073
HLG_KNEE: Final = 0.5
HLG_GAMMA: Final = 1.2
LUMA: Final = [0.2627, 0.6780, 0.0593]
"""Shares of red, green and blue in luminance (BT.2020)."""
SIXTEEN_BITS: Final = 65_535.0


def to_srgb(image: pyvips.Image, transfer: int, primaries: tuple[tuple[Point, ...], Point]) -> pyvips.Image:
    """Convert an image in PQ or HLG, with 16 bits of red, green and blue, to sRGB of 8 bits.

    `transfer` is PQ or HLG. `primaries` are the colours of red, green, blue and white of the image.
    """
    if transfer == HLG:
        scene = image.maplut(_table(_hlg_to_scene))
        brightness = scene.recomb(pyvips.Image.new_from_array([LUMA])) ** (HLG_GAMMA - 1)
        light = (scene * brightness * SIXTEEN_BITS).cast("ushort").maplut(_table(lambda part: _compress(part * PEAK)))
    else:
        light = image.maplut(_table(lambda code: _compress(_pq_to_light(code))))
    return light.recomb(matrix_to_srgb(*primaries)).copy(interpretation="scrgb").colourspace("srgb").cast("uchar")


def _table(curve: Callable[[pyvips.Image], pyvips.Image]) -> pyvips.Image:
    """Return the table of a curve for all 16-bit samples, which the curve receives as 0 to 1."""
    return curve(pyvips.Image.identity(ushort=True) / SIXTEEN_BITS).cast("float").copy_memory()


def _pq_to_light(code: pyvips.Image) -> pyvips.Image:
    """Return the light of PQ samples in cd/m2 (BT.2100, table 4)."""
    power = code ** (1 / M2)
    above = power - C1
    return (((above > 0).ifthenelse(above, 0)) / (C2 - C3 * power)) ** (1 / M1) * PQ_MAX


def _light_to_pq(light: pyvips.Image) -> pyvips.Image:
    power = (light / PQ_MAX) ** M1
    return ((C1 + C2 * power) / (1 + C3 * power)) ** M2


def _hlg_to_scene(code: pyvips.Image) -> pyvips.Image:
    """Return the light of the scene of HLG samples, 0 to 1 (BT.2100, table 5)."""
    return (code <= HLG_KNEE).ifthenelse(code**2 / 3, (((code - HLG_C) / HLG_A).exp() + HLG_B) / 12)


def _compress(light: pyvips.Image) -> pyvips.Image:
    """Map light in cd/m2, up to PEAK, to 0 to 1, where 1 is WHITE (BT.2390, 5.4.1: a Hermite spline of PQ values)."""
    peak = _pq_of(PEAK)
    white = _pq_of(WHITE) / peak
    knee = 1.5 * white - 0.5
    value = _light_to_pq(light) / peak
    value = (value > 1).ifthenelse(1, value)
    at = (value - knee) / (1 - knee)
    curve = (2 * at**3 - 3 * at**2 + 1) * knee + (at**3 - 2 * at**2 + at) * (1 - knee) + (3 * at**2 - 2 * at**3) * white
    return _pq_to_light((value < knee).ifthenelse(value, curve) * peak) / WHITE


def _pq_of(light: float) -> float:
    power = math.pow(light / PQ_MAX, M1)
    return math.pow((C1 + C2 * power) / (1 + C3 * power), M2)
