"""Images that are stored without encoding them again: they are decoded completely, and metadata is removed."""

import logging
from pathlib import Path

import pyvips

from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.describe import check_and_describe
from handlers.media.image import animation, keep_reasons, tiff_kinds
from handlers.media.image.colour import Space
from handlers.media.image.limits import MAX_ENCODED_PIXELS, check_pages, check_shape
from handlers.media.image.loader import OpenedImage
from handlers.media.image.placeholder import placeholder, placeholder_in_memory
from handlers.media.image.variants import with_variants
from handlers.media.metadata import strip_metadata, xmp_of, xmp_of_file

log = logging.getLogger(__name__)


def keep(
    header: OpenedImage,
    target: Path,
    options: EncodeOptions,
    limits: Limits,
    space: Space | None = None,
    *,
    is_hdr: bool = False,
) -> Decoded:
    """Decode every page, and store the file without encoding it; its metadata is removed (`strip_metadata`).

    Variants are made of the first page, or of all frames, unless the image is HDR or 8 bits cannot show it.

    Raises:
        FileCorruptedError, pyvips.Error: a page does not decode.
        DecoderLimitError: the pages together have more pixels than `limits` allow.
    """
    in_memory = header.fits_in_memory(options, limits)
    image = header.load(sequential=in_memory)
    image = image.copy_memory() if in_memory else _decode(image)
    for page in check_pages(limits, header.width * header.height, header.other_pages()):
        _decode(page)
    first = image.crop(0, 0, image.width, image.get_page_height())
    if keep_reasons.has_unknown_alpha(header):
        first = first.extract_band(0, n=first.bands - 1)
    decoded = check_and_describe(
        strip_metadata(header.path, target, header.content_type, options, xmp_of(image)),
        target,
        header.content_type,
        width=first.width,
        height=first.height,
        frames=header.pages,
        duration=animation.duration_seconds(image),
        thumbhash=placeholder_in_memory(first, space) if in_memory else placeholder(first, space),
    )
    if is_hdr or not keep_reasons.fits_in_8_bits(header):
        return decoded
    return with_variants(decoded, image if header.is_animated else first, space, target, options)


def keep_animation(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,
    limits: Limits,
    opened: OpenedImage | None = None,
) -> Decoded:
    """Decode every frame of an animation with Pillow, and store the file without encoding it.

    `opened` is the header that libvips has read; XMP and orientation are taken from there. It is None for an APNG
    or an AVIF sequence, whose XMP is read from the file. Variants are made of the first frame, or of all frames if
    `opened` is given, an animated variant was requested, and the animation is small enough to encode.

    Raises:
        FileCorruptedError: a frame does not decode.
        DecoderLimitError: the animation exceeds `limits`.
    """
    header = None if opened is None else opened.image
    first, frames, seconds = animation.decode_frames(source, limits)
    if header is not None and header.get_typeof("orientation"):
        first = first.copy()
        first.set_type(pyvips.GValue.gint_type, "orientation", header.get("orientation"))
        first = first.autorot()
    xmp = xmp_of_file(source, content_type) if header is None else xmp_of(header)
    decoded = check_and_describe(
        strip_metadata(source, target, content_type, options, xmp),
        target,
        content_type,
        width=first.width,
        height=first.height,
        frames=frames,
        duration=seconds,
        thumbhash=placeholder(first),
    )
    is_animated = any(wanted.animated for wanted in options.variants)
    if opened is not None and is_animated and not is_too_large_to_encode(opened, limits):
        first = opened.reopen(all_frames=True, shrink=1)
    return with_variants(decoded, first, None, target, options)


def keep_unsupported_tiff(
    source: Path, target: Path, kind: tiff_kinds.UnsupportedTiff, options: EncodeOptions, limits: Limits
) -> Decoded:
    """Store a TIFF file that libvips does not support without encoding it.

    If Pillow supports the file, it decodes all pages, and placeholder and variants are made of the first one.

    Raises:
        FileCorruptedError: a page does not decode, or pixels are missing.
        DecoderLimitError: the image exceeds `limits`.
    """
    check_shape(kind.width, kind.height, kind.pages, kind.pixel_bytes, limits)
    tiff_kinds.check_pixel_bytes(source, kind.pages)
    log.warning("a TIFF image is stored without conversion: %s is not supported", kind.reason)
    first = tiff_kinds.decode_by_pillow(source)
    decoded = check_and_describe(
        strip_metadata(source, target, "image/tiff", options, xmp_of_file(source, "image/tiff")),
        target,
        "image/tiff",
        width=kind.width,
        height=kind.height,
        frames=kind.pages,
        thumbhash=None if first is None else placeholder(first),
    )
    return decoded if first is None else with_variants(decoded, first, None, target, options)


def is_too_large_to_encode(animated: OpenedImage, limits: Limits) -> bool:
    """Whether all frames of an animation together have too many pixels, or take too much memory, to be encoded."""
    pixels = animated.width * animated.height * animated.pages
    return pixels > min(limits.max_pixels, MAX_ENCODED_PIXELS) or pixels * animated.pixel_bytes > limits.max_memory


def _decode(image: pyvips.Image) -> pyvips.Image:
    image.cast("uchar").avg()  # without the cast, libvips raises an error for NaN and for complex samples
    return image
