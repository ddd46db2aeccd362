"""Encoding an image: which format is chosen, and whether the result saves enough."""

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
"""The longest side in pixels that the encoder of each format accepts; a larger image is kept."""
MIN_SAVING: Final = 0.05
"""The share of the bytes that encoding must save if the output has the source's format, or if no format was requested
and browsers show the source. In other cases, one byte is enough."""
SHOWN_BY_BROWSERS: Final = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"})


def without_opaque_alpha(image: pyvips.Image) -> pyvips.Image:
    """Return the image without its alpha channel if that has 8 or 16 bits and is opaque everywhere."""
    if not image.hasalpha():
        return image
    opaque = {"ushort": 65535, "uchar": 255}.get(image.format)
    if opaque is None or image[image.bands - 1].min() < opaque:
        return image
    return image.extract_band(0, n=image.bands - 1)


def output_format(image: pyvips.Image, requested: ImageFormat) -> str:
    """Return the format to encode: JPEG for `auto`, but WebP for animations and, instead of JPEG, for alpha."""
    if animation.frame_count(image) > 1:
        return "webp"
    if requested in {ImageFormat.AUTO, ImageFormat.JPEG}:
        return "webp" if image.hasalpha() else "jpeg"
    return requested.value


SAVERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "jpeg": ("jpegsave", {}),  # optimised Huffman tables take 25% more time and save 2% of the bytes
    "webp": ("webpsave", {"effort": 2}),  # effort 4, the default, takes twice the time and saves 5% of the bytes
    "avif": ("heifsave", {"compression": "av1", "effort": 3, "bitdepth": 8}),
}
"""The function of libvips that encodes each format, and its options."""


def encode(image: pyvips.Image, space: Space | None, target: Path, output: str, options: EncodeOptions) -> int:
    """Encode the image to `target`, which also decodes all of it; return the quality that was used.

    This is `options.quality`. With `options.ssim`, for a still image, it is the lowest quality that `encode_similar`
    finds similar enough.
    """
    image, keep = select_metadata(image, options)
    image = to_srgb(image, space)
    if options.ssim is not None and animation.frame_count(image) == 1:
        return _encode_similar(image.copy_memory(), target, output, keep, options.ssim)
    write(image, target, output, options.quality, keep)
    return options.quality


def write(image: pyvips.Image, target: Path, output: str, quality: int, keep: str) -> None:
    """Encode an image, 8-bit sRGB or grey, to `target`. `keep` is libvips' option that names the metadata to write."""
    saver, arguments = SAVERS[output]
    if animation.frame_count(image) > 1:
        image = animation.with_timing(image)
    getattr(image, saver)(str(target), Q=quality, keep=keep, **arguments)


def _encode_similar(image: pyvips.Image, target: Path, output: str, keep: str, wanted: float) -> int:
    from handlers.media.image.quality.target import encode_similar  # noqa: PLC0415 - Pillow, which it imports, is large

    saver, arguments = SAVERS[output]
    if output == "jpeg":  # only luma is compared; from quality 90 on, libvips would not subsample the colours
        arguments = arguments | {"subsample_mode": "on"}

    def encode_at(picture: pyvips.Image, quality: int) -> bytes:
        return bytes(getattr(picture, f"{saver}_buffer")(Q=quality, keep=keep, **arguments))

    content, quality = encode_similar(image, wanted, encode_at)
    target.write_bytes(content)
    return quality


def saves_enough(target: Path, header: OpenedImage, output: str, options: EncodeOptions) -> bool:
    """Whether the encoded image at `target` is so much smaller than the original that it is stored (MIN_SAVING)."""
    maximum: float = header.path.stat().st_size
    is_same = CONTENT_TYPES[output] == header.content_type
    if is_same or (options.format is ImageFormat.AUTO and header.content_type in SHOWN_BY_BROWSERS):
        maximum *= 1 - MIN_SAVING
    return target.stat().st_size < maximum
