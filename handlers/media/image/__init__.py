"""Images: decoded completely and compressed in the same pass. Runs in a codec process.

`_output_format` chooses the format. A stored image is never larger than its original (which is kept instead), is never
rotated or of different colours, and never loses transparency or animation. What our output formats cannot hold (the
frames of an APNG, the pages of a document, HDR) is kept as it is.
"""

import math
from pathlib import Path
from typing import Any, Final

import pyvips

from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.describe import check_and_describe
from handlers.media.image import animation, second_decoder
from handlers.media.image.colour import Space, to_srgb
from handlers.media.image.colour_tags import HdrError, brands, space_of
from handlers.media.image.limits import check_pages, check_shape, check_webp
from handlers.media.image.loader import OpenedImage, open_image
from handlers.media.image.thumbhash import thumbhash
from handlers.media.metadata import provenance, select_metadata, strip_metadata, xmp_of
from schemas.formats import ImageFormat

CONTENT_TYPES: Final = {"jpeg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
MAX_SIDE: Final = {"jpeg": 65_500, "webp": 16_383, "avif": 16_384}
"""Longest side in pixels that each format can hold; larger images are kept."""
PLACEHOLDER_SIDE: Final = 16
"""Longer side of the placeholder in pixels. Its hash has at most seven frequencies; more pixels hardly change them."""
IN_MEMORY_BYTES: Final = 8 << 20
"""Images of up to this size are decoded to memory: a placeholder then takes 0.5 ms instead of 2.6."""
RGB_BANDS: Final = 3
MAX_BANDS: Final = 4
"""Three colours and transparency, or four inks; images with more are kept."""
HEIC_SEQUENCES: Final = frozenset({b"hevc", b"hevx", b"msf1"})
"""Brands of HEIC files that contain an image sequence besides the primary image."""


def prepare(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Decoded:
    """Validate an image and compress it to `target`; keep the original if the result is not smaller.

    Raises:
        FileCorruptedError: it is not what `content_type` says, or does not decode completely.
        DecoderLimitError: it has more frames, pixels or bytes, in all frames together, than `limits` allow.
    """
    if animation.is_animation(source, content_type):
        return _keep_animation(source, target, content_type, options, limits)
    header = _open_checked(source, content_type, limits)
    try:
        space = space_of(source, content_type)
    except HdrError:
        return _keep(header, target, options, limits)
    if _must_keep(header, options):
        return _keep(header, target, options, limits)
    in_memory = _fits_in_memory(header)
    loaded = header.load(sequential=in_memory or not header.has_alpha)
    loaded = loaded.copy_memory() if in_memory else loaded
    image = _without_opaque_alpha(loaded)
    output = _output_format(image, options.format)
    if max(int(image.width), int(image.get_page_height())) > MAX_SIDE[output]:
        return _keep(header, target, options, limits)
    _encode(image, space, target, output, options)
    properties = {
        "width": image.width,
        "height": image.get_page_height(),
        "frames": animation.frame_count(image),
        "duration": animation.duration_seconds(image),
        "thumbhash": _placeholder_in_memory(image, space) if in_memory else _placeholder_of_file(target),
    }
    if target.stat().st_size >= source.stat().st_size:
        target.unlink()
        path = strip_metadata(source, target, content_type, options, xmp_of(loaded))
        return check_and_describe(path, target, content_type, **properties)
    return Decoded(path=target, content_type=CONTENT_TYPES[output], **properties)


def _open_checked(source: Path, content_type: str, limits: Limits) -> OpenedImage:
    """Read the header, check the limits, then run the second decoder."""
    if content_type == "image/webp":
        check_webp(source, limits)
    header = open_image(source, content_type)
    check_shape(header.width, header.height, header.pages, header.pixel_bytes, limits)
    second_decoder.check(source, content_type)
    return header


def _fits_in_memory(header: OpenedImage) -> bool:
    """Whether to decode all pixels to memory once, for the encoder and the placeholder."""
    return header.pages == 1 and header.width * header.height * header.pixel_bytes <= IN_MEMORY_BYTES


def _must_keep(header: OpenedImage, options: EncodeOptions) -> bool:
    """Whether encoding was not requested, would lose pages or inks, or would break a signature that must stay."""
    if options.format is ImageFormat.KEEP or header.bands > MAX_BANDS or header.is_kept:
        return True
    if header.pages > 1 and not header.is_animated:
        return True
    if header.content_type == "image/heic" and brands(header.path) & HEIC_SEQUENCES:
        return True
    return options.keep_provenance and provenance.has_manifest(header.path, header.content_type)


def _keep(header: OpenedImage, target: Path, options: EncodeOptions, limits: Limits) -> Decoded:
    """Decode every page and keep the file as it is."""
    image = header.load(sequential=False)
    image.avg()
    for page in check_pages(limits, header.width * header.height, header.other_pages()):
        page.avg()
    first = image.crop(0, 0, image.width, image.get_page_height())
    return check_and_describe(
        strip_metadata(header.path, target, header.content_type, options, xmp_of(image)),
        target,
        header.content_type,
        width=first.width,
        height=first.height,
        frames=header.pages,
        duration=animation.duration_seconds(image),
        thumbhash=_placeholder(first.thumbnail_image(PLACEHOLDER_SIDE)),
    )


def _keep_animation(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Decoded:
    """Decode every frame of an animation that libvips does not read, and keep the file as it is."""
    first, frames, seconds = animation.decode_frames(source, limits)
    return check_and_describe(
        strip_metadata(source, target, content_type, options, None),
        target,
        content_type,
        width=first.width,
        height=first.height,
        frames=frames,
        duration=seconds,
        thumbhash=_placeholder(first.thumbnail_image(PLACEHOLDER_SIDE)),
    )


def _without_opaque_alpha(image: pyvips.Image) -> pyvips.Image:
    """Remove an alpha channel that is opaque everywhere."""
    if not image.hasalpha():
        return image
    opaque = {"ushort": 65535, "uchar": 255}.get(image.format)
    if opaque is None or image[image.bands - 1].min() < opaque:
        return image
    return image.extract_band(0, n=image.bands - 1)


def _output_format(image: pyvips.Image, requested: ImageFormat) -> str:
    """Choose the format: only WebP holds animations, and JPEG holds no transparency."""
    if animation.frame_count(image) > 1:
        return "webp"
    if requested in {ImageFormat.AUTO, ImageFormat.JPEG}:
        return "webp" if image.hasalpha() else "jpeg"
    return requested.value


def _encode(image: pyvips.Image, space: Space | None, target: Path, output: str, options: EncodeOptions) -> None:
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


def _placeholder_in_memory(image: pyvips.Image, space: Space | None) -> str:
    """Return the placeholder of an image in memory."""
    factor = math.ceil(max(image.width, image.height) / PLACEHOLDER_SIDE)  # an integer halves the time
    if image.hasalpha() or factor > min(image.width, image.height):
        return _placeholder(to_srgb(image, space).thumbnail_image(PLACEHOLDER_SIDE))
    return _placeholder(image.shrink(factor, factor), space)  # half the time of thumbnail_image


def _placeholder_of_file(path: Path) -> str:
    return _placeholder(pyvips.Image.thumbnail(str(path), PLACEHOLDER_SIDE))


def _placeholder(small: pyvips.Image, space: Space | None = None) -> str:
    """Return the placeholder of an image of about PLACEHOLDER_SIDE pixels."""
    if max(small.width, small.height) > PLACEHOLDER_SIDE:
        small = small.thumbnail_image(PLACEHOLDER_SIDE)
    if small.bands > MAX_BANDS:
        small = small.extract_band(0, n=3).copy(interpretation="srgb")  # inks without a known colour
    small = to_srgb(small, space)
    small = small.colourspace("srgb") if small.bands < RGB_BANDS else small
    return thumbhash(small.width, small.height, bytes(small.write_to_memory()), small.bands)
