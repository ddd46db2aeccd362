"""A frame of a video as a picture: upright, in square pixels, 8 bits of sRGB, with its transparency."""

from fractions import Fraction
from typing import Final

import av
import pyvips
from av.video.reformatter import Interpolation

from handlers.media.av import hdr
from handlers.media.av.display import orientation, square_size
from handlers.media.image.colour import D65, SRGB_PRIMARIES, to_srgb
from handlers.media.image.colour_tags import CURVES, PRIMARIES, HdrError, space_of_codes

UNSPECIFIED: Final = 2
BT709, BT601 = 1, 5
"""Matrices of luma and chroma (ITU-T H.273, table 4)."""
HD_HEIGHT: Final = 720
"""Smaller frames that do not name their matrix have that of BT.601, in browsers, too."""
RGBA_BYTES, RGBA64_BYTES = 4, 8
BANDS_WITH_ALPHA: Final = 4
"""Bands of an image with transparency; without it there are three."""


def picture_of(frame: av.VideoFrame, aspect: Fraction, longest: int | None = None) -> pyvips.Image:
    """Return the picture of a frame, in memory. `aspect` is width by height of its pixels.

    `longest`: the maximum of both sides in pixels. The frame is then scaled fast and not well, which suffices for
    placeholders.
    """
    image = _pixels(frame, longest)
    size = square_size(image.width, image.height, aspect)
    if size != (image.width, image.height):
        image = _resized(image, *size)
    image = _in_srgb(image, frame)
    shown = orientation(frame)
    image = image.fliphor() if shown.is_mirrored else image
    return (image.rot(f"d{shown.turn}") if shown.turn else image).copy_memory()


def small_rgba(frame: av.VideoFrame, longest: int) -> pyvips.Image:
    """Return a frame as it is stored, not turned, in 8-bit RGBA, with sides of at most `longest` pixels."""
    return _converted(frame, "rgba", RGBA_BYTES, longest)


def _pixels(frame: av.VideoFrame, longest: int | None) -> pyvips.Image:
    """Return a frame as it is stored, not turned: 16 bits if it is HDR, else 8; alpha only if its format has any."""
    if frame.color_trc in {hdr.PQ, hdr.HLG}:
        image = _converted(frame, "rgba64le", RGBA64_BYTES, longest).copy(interpretation="rgb16")
    else:
        image = _converted(frame, "rgba", RGBA_BYTES, longest).copy(interpretation="srgb")
    has_alpha = any(component.is_alpha for component in frame.format.components) or frame.format.has_palette
    return image if has_alpha else image.extract_band(0, n=3)


def _converted(frame: av.VideoFrame, pixel_format: str, pixel_bytes: int, longest: int | None) -> pyvips.Image:
    scale = 1 if longest is None else min(Fraction(1), Fraction(longest, max(frame.width, frame.height)))
    matrix = (BT709 if frame.height >= HD_HEIGHT else BT601) if frame.colorspace == UNSPECIFIED else None
    converted = frame.reformat(
        max(1, int(frame.width * scale)),
        max(1, int(frame.height * scale)),
        pixel_format,
        src_colorspace=matrix,
        interpolation=Interpolation.FAST_BILINEAR if longest else Interpolation.BICUBIC,
        threads=1,  # the pool is the parallelism
    )
    (plane,) = converted.planes
    stride = plane.line_size // pixel_bytes
    samples = "ushort" if pixel_bytes == RGBA64_BYTES else "uchar"
    image = pyvips.Image.new_from_memory(memoryview(plane), stride, converted.height, BANDS_WITH_ALPHA, samples)
    return image.crop(0, 0, converted.width, converted.height)


def _resized(image: pyvips.Image, width: int, height: int) -> pyvips.Image:
    has_alpha = image.bands == BANDS_WITH_ALPHA
    source = image.premultiply() if has_alpha else image
    resized = source.resize(width / image.width, vscale=height / image.height)
    return resized.unpremultiply().cast(image.format) if has_alpha else resized


def _in_srgb(image: pyvips.Image, frame: av.VideoFrame) -> pyvips.Image:
    try:
        return to_srgb(image, space_of_codes(frame.color_primaries, frame.color_trc, curves=CURVES))
    except HdrError:
        primaries = PRIMARIES.get(frame.color_primaries, (SRGB_PRIMARIES, D65))
    colour = hdr.to_srgb(image.extract_band(0, n=3), frame.color_trc, primaries)
    if image.bands < BANDS_WITH_ALPHA:
        return colour
    return colour.bandjoin((image[BANDS_WITH_ALPHA - 1] >> 8).cast("uchar"))
