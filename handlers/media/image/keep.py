"""Images that are stored as they are: decoded completely, and without their metadata."""

import logging
from pathlib import Path

import pyvips

from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.describe import check_and_describe
from handlers.media.image import animation, kept, tiff_kinds
from handlers.media.image.colour import Space
from handlers.media.image.limits import MAX_ENCODED_PIXELS, check_pages, check_shape
from handlers.media.image.loader import OpenedImage
from handlers.media.image.placeholder import placeholder, placeholder_in_memory
from handlers.media.image.variants import with_variants
from handlers.media.metadata import strip_metadata, xmp_of

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
    """Decode every page and keep the file as it is. Variants are of the first page, if 8 bits can show it."""
    in_memory = header.fits_in_memory(options, limits)
    image = header.load(sequential=in_memory)
    image = image.copy_memory() if in_memory else _decode(image)
    for page in check_pages(limits, header.width * header.height, header.other_pages()):
        _decode(page)
    first = image.crop(0, 0, image.width, image.get_page_height())
    if kept.has_unknown_alpha(header):
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
    if is_hdr or not kept.can_be_shown(header):
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
    """Decode every frame of an animation that libvips does not read, or that is not worth encoding; keep the file.

    `opened` is what libvips has read, if it can; its metadata and orientation are used. Variants are of the first frame
    if it is too long to encode.
    """
    header = None if opened is None else opened.image
    first, frames, seconds = animation.decode_frames(source, limits)
    if header is not None and header.get_typeof("orientation"):
        first = first.copy()
        first.set_type(pyvips.GValue.gint_type, "orientation", header.get("orientation"))
        first = first.autorot()
    decoded = check_and_describe(
        strip_metadata(source, target, content_type, options, None if header is None else xmp_of(header)),
        target,
        content_type,
        width=first.width,
        height=first.height,
        frames=frames,
        duration=seconds,
        thumbhash=placeholder(first),
    )
    is_animated = any(wanted.animated for wanted in options.variants)
    if opened is not None and is_animated and not is_too_long(opened, limits):
        first = opened.reopen(all_frames=True, shrink=1)
    return with_variants(decoded, first, None, target, options)


def keep_unsupported(
    source: Path, target: Path, kind: tiff_kinds.UnsupportedTiff, options: EncodeOptions, limits: Limits
) -> Decoded:
    """Keep a TIFF file that libvips does not support; Pillow decodes it if it can."""
    check_shape(kind.width, kind.height, kind.pages, kind.pixel_bytes, limits)
    tiff_kinds.check_amounts(source, kind.pages)
    log.warning("a TIFF image is stored without conversion: %s is not supported", kind.reason)
    first = tiff_kinds.decode_by_pillow(source)
    decoded = check_and_describe(
        strip_metadata(source, target, "image/tiff", options, None),
        target,
        "image/tiff",
        width=kind.width,
        height=kind.height,
        frames=kind.pages,
        thumbhash=None if first is None else placeholder(first),
    )
    return decoded if first is None else with_variants(decoded, first, None, target, options)


def is_too_long(animated: OpenedImage, limits: Limits) -> bool:
    """Whether the frames of an animation are too many pixels, or bytes, to encode them."""
    pixels = animated.width * animated.height * animated.pages
    return pixels > min(limits.max_pixels, MAX_ENCODED_PIXELS) or pixels * animated.pixel_bytes > limits.max_memory


def _decode(image: pyvips.Image) -> pyvips.Image:
    image.cast("uchar").avg()  # libvips has no average of samples that are no number
    return image
