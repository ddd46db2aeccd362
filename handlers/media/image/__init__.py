"""Images: decoded completely and compressed in the same pass. Runs in a codec process.

`encode.py` chooses the format. A stored image is never larger than its original (which is kept instead), is never
rotated or of different colours, and never loses transparency or animation. What our output formats cannot hold (the
frames of an APNG, the pages of a document, HDR, gain maps, depth maps) is kept as it is (`kept.py`), and so are
animations of more than MAX_IMAGE_PIXELS.
"""

import logging
from pathlib import Path
from typing import Final

import pyvips

from handlers.errors import FileCorruptedError
from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.describe import check_and_describe
from handlers.media.formats import cut_tail
from handlers.media.image import animation, kept, second_decoder, tiff_kinds
from handlers.media.image.colour import Space
from handlers.media.image.colour_tags import HdrError, space_of
from handlers.media.image.encode import (
    CONTENT_TYPES,
    MAX_SIDE,
    encode,
    is_worth_it,
    output_format,
    without_opaque_alpha,
)
from handlers.media.image.limits import check_pages, check_shape, check_webp
from handlers.media.image.loader import OpenedImage, open_image
from handlers.media.image.placeholder import placeholder, placeholder_in_memory, placeholder_of_file
from handlers.media.metadata import strip_metadata, xmp_of

log = logging.getLogger(__name__)

IN_MEMORY_BYTES: Final = 8 << 20
"""Images of up to this size are decoded to memory: a placeholder then takes 0.5 ms instead of 2.6."""


def prepare(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Decoded:
    """Validate an image and compress it to `target`; keep the original if the result is not smaller.

    Raises:
        FileCorruptedError: it is not what `content_type` says, or does not decode completely.
        DecoderLimitError: it has more frames, pixels or bytes, in all frames together, than `limits` allow.
    """
    if content_type == "image/webp":
        check_webp(source, limits)
    source = cut_tail(source, target.with_name("whole"), content_type)
    if content_type != "image/tiff":
        return _prepare_whole(source, target, content_type, options, limits)
    try:
        return _prepare_whole(source, target, content_type, options, limits)
    except (FileCorruptedError, pyvips.Error):
        kind = tiff_kinds.unsupported_kind(source, limits.max_frames)
        if kind is None:
            raise
    return _keep_unsupported(source, target, kind, options, limits)


def _prepare_whole(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Decoded:
    """Prepare a file whose structure has been checked."""
    if animation.is_animation(source, content_type):
        return _keep_animation(source, target, content_type, options, limits)
    header = _open_checked(source, content_type, limits)
    if header.is_animated and _is_too_long(header, limits):
        return _keep_animation(source, target, content_type, options, limits, header.image)
    second_decoder.check(source, content_type)
    try:
        space = space_of(source, content_type)
    except HdrError:
        return _keep(header, target, options, limits)
    if kept.must_keep(header, options):
        return _keep(header, target, options, limits)
    return _compress(header, space, target, options, limits)


def _compress(
    header: OpenedImage, space: Space | None, target: Path, options: EncodeOptions, limits: Limits
) -> Decoded:
    """Encode the image to `target`; keep the original if the result is not smaller."""
    in_memory = _fits_in_memory(header)
    loaded = header.load(sequential=in_memory or not header.has_alpha)
    loaded = loaded.copy_memory() if in_memory else loaded
    image = without_opaque_alpha(loaded)
    output = output_format(image, options.format)
    if max(int(image.width), int(image.get_page_height())) > MAX_SIDE[output]:
        return _keep(header, target, options, limits)
    encode(image, space, target, output, options)
    properties = {
        "width": image.width,
        "height": image.get_page_height(),
        "frames": animation.frame_count(image),
        "duration": animation.duration_seconds(image),
        "thumbhash": placeholder_in_memory(image, space) if in_memory else placeholder_of_file(target),
    }
    if not is_worth_it(target, header, output, options):
        target.unlink()
        path = strip_metadata(header.path, target, header.content_type, options, xmp_of(loaded))
        return check_and_describe(path, target, header.content_type, **properties)
    return Decoded(path=target, content_type=CONTENT_TYPES[output], **properties)


def _open_checked(source: Path, content_type: str, limits: Limits) -> OpenedImage:
    """Read the header, and check the limits."""
    header = open_image(source, content_type)
    check_shape(header.width, header.height, header.pages, header.pixel_bytes, limits, is_animation=header.is_animated)
    return header


def _is_too_long(animated: OpenedImage, limits: Limits) -> bool:
    """Whether the frames of an animation are too many pixels, or bytes, to encode them."""
    pixels = animated.width * animated.height * animated.pages
    return pixels > limits.max_pixels or pixels * animated.pixel_bytes > limits.max_memory


def _fits_in_memory(header: OpenedImage) -> bool:
    """Whether to decode all pixels to memory once, for the encoder and the placeholder."""
    return header.pages == 1 and header.width * header.height * header.pixel_bytes <= IN_MEMORY_BYTES


def _keep(header: OpenedImage, target: Path, options: EncodeOptions, limits: Limits) -> Decoded:
    """Decode every page and keep the file as it is."""
    image = header.load(sequential=False)
    _decode(image)
    for page in check_pages(limits, header.width * header.height, header.other_pages()):
        _decode(page)
    first = image.crop(0, 0, image.width, image.get_page_height())
    if kept.has_unknown_alpha(header):
        first = first.extract_band(0, n=first.bands - 1)
    return check_and_describe(
        strip_metadata(header.path, target, header.content_type, options, xmp_of(image)),
        target,
        header.content_type,
        width=first.width,
        height=first.height,
        frames=header.pages,
        duration=animation.duration_seconds(image),
        thumbhash=placeholder(first),
    )


def _decode(image: pyvips.Image) -> None:
    image.cast("uchar").avg()  # libvips has no average of samples that are no number


def _keep_animation(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,
    limits: Limits,
    header: pyvips.Image | None = None,
) -> Decoded:
    """Decode every frame of an animation that libvips does not read, or would take too long to encode; keep the file.

    `header` is the one that libvips has read; its metadata and orientation are used.
    """
    first, frames, seconds = animation.decode_frames(source, limits)
    if header is not None and header.get_typeof("orientation"):
        first = first.copy()
        first.set_type(pyvips.GValue.gint_type, "orientation", header.get("orientation"))
        first = first.autorot()
    return check_and_describe(
        strip_metadata(source, target, content_type, options, None if header is None else xmp_of(header)),
        target,
        content_type,
        width=first.width,
        height=first.height,
        frames=frames,
        duration=seconds,
        thumbhash=placeholder(first),
    )


def _keep_unsupported(
    source: Path, target: Path, kind: tiff_kinds.UnsupportedTiff, options: EncodeOptions, limits: Limits
) -> Decoded:
    """Keep a TIFF file that libvips does not support; Pillow decodes it if it can."""
    check_shape(kind.width, kind.height, kind.pages, kind.pixel_bytes, limits)
    tiff_kinds.check_amounts(source, kind.pages)
    log.warning("a TIFF image is stored without conversion: %s is not supported", kind.reason)
    first = tiff_kinds.decode_by_pillow(source)
    return check_and_describe(
        strip_metadata(source, target, "image/tiff", options, None),
        target,
        "image/tiff",
        width=kind.width,
        height=kind.height,
        frames=kind.pages,
        thumbhash=None if first is None else placeholder(first),
    )
