"""Conversion from any colour space, profile and depth to 8-bit sRGB or grey, which all viewers show in the same way.

ICC profiles are used as browsers use them: with perceptual intent, and ignored if they are not valid. Colour spaces
that a file describes by numbers (`colour_tags.py`) are converted too. Without a profile, colours are sRGB, or CMYK on
coated paper.
"""

from dataclasses import dataclass
from typing import Any, Final

import pyvips

Point = tuple[float, float]

D65: Final[Point] = (0.3127, 0.3290)
SRGB_PRIMARIES: Final[tuple[Point, ...]] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
BRADFORD: Final = [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
MAX_SAMPLE: Final = {"uchar": 255.0, "ushort": 65535.0, "uint": 4294967295.0, "float": 1.0, "double": 1.0}
"""The value of white, or of full opacity, in each sample format of libvips."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How samples from 0 to 1 are converted to linear light: `scale * ((sample + offset) / (1 + offset)) ** gamma`.

    Samples smaller than `linear_below` are multiplied by `slope` instead.
    """

    gamma: float
    scale: float = 1.0
    offset: float = 0.0
    slope: float = 0.0
    linear_below: float = 0.0


@dataclass(frozen=True, slots=True)
class Space:
    """A colour space: the chromaticities x and y of red, green, blue and white. `curve` None is the curve of sRGB."""

    primaries: tuple[Point, ...] = SRGB_PRIMARIES
    white: Point = D65
    curve: Curve | None = None


def to_srgb(image: pyvips.Image, space: Space | None = None) -> pyvips.Image:
    """Return an image as 8-bit sRGB, or grey if it is grey, with its alpha channel.

    `space` is the colour space that its file describes by numbers; it takes precedence over an ICC profile.
    """
    colour, alpha = _split_alpha(image)
    is_grey = colour.bands == 1
    if space is not None and colour.bands <= 3:  # noqa: PLR2004 - three colours at most: CMYK has its own profile
        colour = _from_space(colour, space)
    elif image.interpretation == "cmyk" or image.get_typeof("icc-profile-data"):
        colour = _by_profile(colour)
    elif colour.interpretation in {"lab", "labs", "labq"}:
        colour = colour.colourspace("lab").icc_export(
            output_profile="srgb", depth=8
        )  # its white is D50, as in profiles
    elif colour.format in {"float", "double"} and is_grey:
        colour = _as_scrgb(pyvips.Image.bandjoin(colour, [colour, colour]))  # floating point is linear light
    elif colour.format == "uint":
        colour = (colour / MAX_SAMPLE["uint"] * 255).copy(interpretation="b-w" if is_grey else "srgb").rint()
    if is_grey and colour.bands > 1:
        colour = colour.colourspace("srgb").extract_band(1)  # the three are equal
    output = "b-w" if is_grey else "srgb"
    if (colour.interpretation, colour.format) != (output, "uchar"):
        colour = colour.colourspace(output).cast("uchar")
    return colour if alpha is None else colour.bandjoin(alpha)


def _split_alpha(image: pyvips.Image) -> tuple[pyvips.Image, pyvips.Image | None]:
    """Return the colours of an image, and its alpha channel in 8 bits; None if it has no alpha."""
    if not image.hasalpha():
        return image, None
    maximum = MAX_SAMPLE.get(image.format, 255.0)
    alpha = image[image.bands - 1]
    if maximum != MAX_SAMPLE["uchar"]:
        alpha = (alpha / maximum * 255).rint()
    return image.extract_band(0, n=image.bands - 1), alpha.cast("uchar")


def _by_profile(image: pyvips.Image) -> pyvips.Image:
    """Convert by the embedded profile. If there is none or it is not valid, CMYK or sRGB is assumed."""
    fallback = "cmyk" if image.interpretation == "cmyk" else "srgb"
    try:
        return image.icc_transform("srgb", embedded=True, input_profile=fallback, depth=8, intent="perceptual")
    except pyvips.Error:
        return image


def _from_space(image: pyvips.Image, space: Space) -> pyvips.Image:
    """Convert to linear light, then to the primaries of sRGB, then apply its curve."""
    if image.bands == 1:
        image = pyvips.Image.bandjoin(image, [image, image])
        image = image.copy(interpretation="rgb16" if image.format == "ushort" else "srgb")
    if space.curve is not None:
        light = _as_scrgb(_to_light(image / MAX_SAMPLE.get(image.format, 255.0), space.curve))
    else:
        light = image.colourspace("scrgb")
    if (space.primaries, space.white) != (SRGB_PRIMARIES, D65):
        light = _as_scrgb(light.recomb(matrix_to_srgb(space.primaries, space.white)))
    return light.colourspace("srgb")


def _to_light(samples: pyvips.Image, curve: Curve) -> pyvips.Image:
    light = ((samples + curve.offset) / (1 + curve.offset)) ** curve.gamma * curve.scale
    return (samples < curve.linear_below).ifthenelse(samples * curve.slope, light) if curve.linear_below else light


def _as_scrgb(image: pyvips.Image) -> pyvips.Image:
    return image.copy(interpretation="scrgb")


def matrix_to_srgb(primaries: tuple[Point, ...], white: Point) -> pyvips.Image:
    """Return the matrix that converts linear light from these primaries to those of sRGB, adapting white (Bradford)."""
    cones = _matrix(BRADFORD)
    before, after = (cones.matrixmultiply(_column(point)) for point in (white, D65))
    gains = [after.getpoint(0, at)[0] / before.getpoint(0, at)[0] for at in range(3)]
    adapt = cones.matrixinvert().matrixmultiply(_diagonal(gains)).matrixmultiply(cones)
    from_xyz = _matrix_to_xyz(SRGB_PRIMARIES, D65).matrixinvert()
    return from_xyz.matrixmultiply(adapt).matrixmultiply(_matrix_to_xyz(primaries, white))


def _matrix_to_xyz(primaries: tuple[Point, ...], white: Point) -> pyvips.Image:
    """Return the matrix that converts linear light of these primaries to XYZ (SMPTE RP 177)."""
    columns = [[x for x, _ in primaries], [y for _, y in primaries], [1 - x - y for x, y in primaries]]
    weights = _matrix(columns).matrixinvert().matrixmultiply(_column(white))
    return _matrix(columns).matrixmultiply(_diagonal([weights.getpoint(0, at)[0] for at in range(3)]))


def _column(point: Point) -> pyvips.Image:
    x, y = point
    return _matrix([[x / y], [1.0], [(1 - x - y) / y]])


def _diagonal(values: list[float]) -> pyvips.Image:
    return _matrix([[value if at == row else 0.0 for at in range(3)] for row, value in enumerate(values)])


def _matrix(rows: list[list[float]]) -> Any:  # noqa: ANN401 - pyvips has no types
    return pyvips.Image.new_from_array(rows).cast("double")
