"""Variants: smaller versions of a picture, made from the pixels that were decoded for the picture itself."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import pyvips

from handlers.media import VARIANT, Decoded, DecodedVariant, EncodeOptions, VariantOptions
from handlers.media.image import animation
from handlers.media.image.colour import Space, to_srgb
from handlers.media.image.encode import CONTENT_TYPES, SHOWN_BY_BROWSERS, output_format, without_opaque_alpha, write
from handlers.media.image.loader import OpenedImage
from handlers.media.image.placeholder import placeholder_in_memory
from handlers.media.image.variants.resize import Resizer
from handlers.media.metadata import select_metadata
from schemas.formats import ImageFormat

PLAIN: Final = frozenset({"srgb", "b-w"})
"""The interpretations of 8-bit pixels that need no conversion if they have no ICC profile."""


def with_variants(
    decoded: Decoded, image: pyvips.Image, space: Space | None, target: Path, options: EncodeOptions
) -> Decoded:
    """Return `decoded` with its variants, which are written to files in the folder of `target`.

    `image` has the picture's pixels upright, one frame below the other. If `decoded` has no placeholder, it is made
    from the smallest version. Without requested variants, nothing is done.
    """
    if not options.variants:
        return decoded
    image, keep = select_metadata(without_opaque_alpha(image), replace(options, strip_metadata=True))
    resizer = Resizer(in_srgb(image, space))
    sizes = [_size(decoded.width or 1, decoded.height or 1, wanted) for wanted in options.variants]
    made = {}
    for number, wanted in sorted(enumerate(options.variants), key=lambda item: sizes[item[0]], reverse=True):
        variant = _picture_itself(decoded, wanted, sizes[number], options)
        path = target.with_name(f"{VARIANT}{number}")
        made[number] = variant or _make(resizer, wanted, sizes[number], path, keep)
    return replace(
        decoded,
        variants=tuple(made[number] for number in sorted(made)),
        thumbhash=decoded.thumbhash or placeholder_in_memory(resizer.smallest, None),
    )


def reopened(header: OpenedImage, decoded: Decoded, options: EncodeOptions) -> pyvips.Image:
    """Decode an image again whose pixels were not kept in memory.

    The result is shrunk while decoding if it stays at least twice as large as every variant.
    """
    width, height = decoded.width or 1, decoded.height or 1
    sizes = [_size(width, height, wanted) for wanted in options.variants]
    shrink = min(min(width // size[0], height // size[1]) for size in sizes) // 2
    return header.reopen(all_frames=any(wanted.animated for wanted in options.variants), shrink=shrink)


def in_srgb(image: pyvips.Image, space: Space | None) -> pyvips.Image:
    """Return the image as 8-bit sRGB or grey. If it must be converted, the result is in memory."""
    has_profile = image.interpretation == "cmyk" or image.get_typeof("icc-profile-data")
    if space is None and not has_profile and image.format == "uchar" and image.interpretation in PLAIN:
        return image
    converted = to_srgb(image, space).copy_memory()
    converted.remove("icc-profile-data")
    return converted


def _picture_itself(
    decoded: Decoded, wanted: VariantOptions, size: tuple[int, int], options: EncodeOptions
) -> DecodedVariant | None:
    """Return the stored picture as the variant, if it has the variant's size, format and quality; else None.

    None also if browsers do not show the picture, or it is an animation and the variant is not.
    """
    has_form = wanted.format is ImageFormat.AUTO or CONTENT_TYPES.get(wanted.format) == decoded.content_type
    if (
        (decoded.width, decoded.height) != size
        or not (has_form and wanted.quality == options.quality)
        or decoded.content_type not in SHOWN_BY_BROWSERS
        or ((decoded.frames or 1) > 1 and not wanted.animated)
    ):
        return None
    return DecodedVariant(
        name=wanted.name,
        path=None,
        content_type=decoded.content_type,
        width=size[0],
        height=size[1],
        frames=decoded.frames or 1,
    )


def _make(resizer: Resizer, wanted: VariantOptions, size: tuple[int, int], target: Path, keep: str) -> DecodedVariant:
    small = resizer.all_frames(size) if wanted.animated and resizer.frames > 1 else resizer.first_frame(size)
    output = output_format(small, wanted.format)
    write(small, target, output, wanted.quality, keep)
    frames = animation.stored_timing(target)["frames"] if animation.frame_count(small) > 1 else 1
    return DecodedVariant(
        name=wanted.name,
        path=target,
        content_type=CONTENT_TYPES[output],
        width=size[0],
        height=size[1],
        frames=int(frames or 1),
    )


def _size(width: int, height: int, wanted: VariantOptions) -> tuple[int, int]:
    """Return width and height of a variant of a picture of this size. No side is longer than the picture's."""
    if wanted.height is None:
        scale = min(Fraction(wanted.width, max(width, height, 1)), Fraction(1))
        return _scaled(width, scale), _scaled(height, scale)
    scale = min(Fraction(width, wanted.width), Fraction(height, wanted.height), Fraction(1))
    return _scaled(wanted.width, scale), _scaled(wanted.height, scale)


def _scaled(side: int, scale: Fraction) -> int:
    return max(1, int(side * scale + Fraction(1, 2)))
