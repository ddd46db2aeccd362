"""Encoding an image: the choice of the format, and whether the result is worth it."""

from pathlib import Path
from typing import Any, Final

import pyvips

from handlers.media import EncodeOptions
from handlers.media.image import animation
from handlers.media.image.colour import Space, to_srgb
from handlers.media.image.loader import OpenedImage
from handlers.media.metadata import select_metadata
from schemas.formats import ImageFormat

CONTENT_TYPES: Final = {"jpeg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
MAX_SIDE: Final = {"jpeg": 65_500, "webp": 16_383, "avif": 16_384}
"""Longest side in pixels that each format can hold; larger images are kept."""
MIN_SAVING: Final = 0.05
"""Share of the bytes that encoding must save, unless the source has a format that browsers do not show, or another one
was requested."""
SHOWN_BY_BROWSERS: Final = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"})


def without_opaque_alpha(image: pyvips.Image) -> pyvips.Image:
    """Remove an alpha channel that is opaque everywhere."""
    if not image.hasalpha():
        return image
    opaque = {"ushort": 65535, "uchar": 255}.get(image.format)
    if opaque is None or image[image.bands - 1].min() < opaque:
        return image
    return image.extract_band(0, n=image.bands - 1)


def output_format(image: pyvips.Image, requested: ImageFormat) -> str:
    """Choose the format: only WebP holds animations, and JPEG holds no transparency."""
    if animation.frame_count(image) > 1:
        return "webp"
    if requested in {ImageFormat.AUTO, ImageFormat.JPEG}:
        return "webp" if image.hasalpha() else "jpeg"
    return requested.value


def encode(image: pyvips.Image, space: Space | None, target: Path, output: str, options: EncodeOptions) -> None:
    """Encode the image to `target`; this also decodes all of it."""
    image, keep = select_metadata(image, options)
    arguments: dict[str, Any] = {"Q": options.quality, "keep": keep}
    image = to_srgb(image, space)
    if output == "jpeg":
        # Optimised Huffman tables take 25% more time and save 2% of the bytes.
        image.jpegsave(str(target), **arguments)
    elif output == "webp":
        image = animation.with_timing(image) if animation.frame_count(image) > 1 else image
        # Effort 4, the default, takes twice the time of 2 and saves 5% of the bytes.
        image.webpsave(str(target), effort=2, **arguments)
    else:
        image.heifsave(str(target), compression="av1", effort=3, bitdepth=8, **arguments)


def is_worth_it(target: Path, header: OpenedImage, output: str, options: EncodeOptions) -> bool:
    """Whether the encoded image is so much smaller than the original that it is stored instead."""
    maximum: float = header.path.stat().st_size
    is_same = CONTENT_TYPES[output] == header.content_type
    if is_same or (options.format is ImageFormat.AUTO and header.content_type in SHOWN_BY_BROWSERS):
        maximum *= 1 - MIN_SAVING
    return target.stat().st_size < maximum
