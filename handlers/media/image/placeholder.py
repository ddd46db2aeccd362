"""The placeholder of an image: a ThumbHash of a very small version of it."""

import math
from pathlib import Path
from typing import Final

import pyvips

from handlers.media.image.colour import Space, to_srgb
from handlers.media.image.thumbhash import thumbhash

SIDE: Final = 16
"""Longer side of the small version in pixels. A ThumbHash has at most seven frequencies in each direction, so more
pixels change little."""
RGB_BANDS, MAX_BANDS = 3, 4


def placeholder(image: pyvips.Image, space: Space | None = None) -> str:
    """Return the placeholder of an image as base64; `space` is the colour space that the file describes by numbers."""
    small = image.thumbnail_image(SIDE) if max(image.width, image.height) > SIDE else image
    if small.bands > MAX_BANDS:
        small = small.extract_band(0, n=3).copy(interpretation="srgb")  # inks without a known colour
    small = to_srgb(small, space)
    small = small.colourspace("srgb") if small.bands < RGB_BANDS else small
    return thumbhash(small.width, small.height, bytes(small.write_to_memory()), small.bands)


def placeholder_in_memory(image: pyvips.Image, space: Space | None) -> str:
    """Return the placeholder of an image whose pixels are in memory. Without alpha, this takes half the time."""
    factor = math.ceil(max(image.width, image.height) / SIDE)  # shrinking by a whole number takes half the time
    if image.hasalpha() or factor > min(image.width, image.height):
        return placeholder(to_srgb(image, space))
    return placeholder(image.shrink(factor, factor), space)


def placeholder_of_file(path: Path) -> str:
    """Return the placeholder of an image file, or of the first frame or page in the file."""
    return placeholder(pyvips.Image.thumbnail(str(path), SIDE))
