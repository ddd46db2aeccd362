"""Images: decoded completely and compressed in the same pass. Runs in a codec process.

`encode.py` chooses the format. A stored image has at most the bytes of its original, is shown upright and in the same
colours (within sRGB), and has the same transparency and animation. The original is kept if encoding saves too little, a
JPEG or WebP file is quantized as coarsely as requested already (`quality/`), our output formats cannot hold all of it,
such as an APNG, the pages of a document, HDR, gain maps and depth maps (`keep_reasons.py`), or it is an animation that
would take too long to encode.
"""

from pathlib import Path

import pyvips

from handlers.errors import FileCorruptedError
from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.describe import check_and_describe
from handlers.media.formats import cut_tail
from handlers.media.image import animation, keep_reasons, quality, second_decoder, tiff_kinds
from handlers.media.image.colour import Space
from handlers.media.image.colour_tags import HdrError, space_of
from handlers.media.image.encode import (
    CONTENT_TYPES,
    MAX_SIDE,
    encode,
    output_format,
    saves_enough,
    without_opaque_alpha,
)
from handlers.media.image.keep import is_too_large_to_encode, keep, keep_animation, keep_unsupported_tiff
from handlers.media.image.limits import check_shape, check_webp
from handlers.media.image.loader import OpenedImage, open_image
from handlers.media.image.placeholder import placeholder_in_memory, placeholder_of_file
from handlers.media.image.quality import webp
from handlers.media.image.variants import in_srgb, reopened, with_variants
from handlers.media.metadata import strip_metadata, xmp_of


def prepare(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Decoded:
    """Validate an image and compress it to `target`, or keep the original (see the module) and return its path.

    Raises:
        FileCorruptedError: the image is not what `content_type` says, or does not decode completely.
        pyvips.Error: libvips cannot decode the pixels.
        FileTypeNotSupportedError: a HEIC image has pixels of a layout that we do not know.
        DecoderLimitError: the image exceeds `limits` (`limits.check_shape`), or a limit of libheif.
    """
    if content_type == "image/webp":
        check_webp(source, limits)
    source = cut_tail(source, target.with_name("whole"), content_type)
    if content_type != "image/tiff":
        return _prepare_checked(source, target, content_type, options, limits)
    try:
        return _prepare_checked(source, target, content_type, options, limits)
    except (FileCorruptedError, pyvips.Error):
        kind = tiff_kinds.unsupported_kind(source, limits.max_frames)
        if kind is None:
            raise
    return keep_unsupported_tiff(source, target, kind, options, limits)


def _prepare_checked(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Decoded:
    """Do the work of `prepare` for a file whose structure has been checked."""
    if animation.is_apng_or_avif_sequence(source, content_type):
        return keep_animation(source, target, content_type, options, limits)
    header = _open_checked(source, content_type, limits)
    if header.is_animated and (is_too_large_to_encode(header, limits) or _would_save_nothing(header, options)):
        return keep_animation(source, target, content_type, options, limits, header)
    second_decoder.check(source, content_type)
    try:
        space = space_of(source, content_type)
    except HdrError:
        return keep(header, target, options, limits, is_hdr=True)
    if keep_reasons.must_keep(header, options) or (not header.is_animated and quality.is_coarse(header, options)):
        return keep(header, target, options, limits, space)
    return _compress(header, space, target, options, limits)


def _compress(
    header: OpenedImage, space: Space | None, target: Path, options: EncodeOptions, limits: Limits
) -> Decoded:
    """Encode the image to `target`; keep the original if that saves too little, or a side is too long to encode."""
    in_memory = header.fits_in_memory(options, limits)
    loaded = header.load(sequential=in_memory or not header.has_alpha)
    loaded = loaded.copy_memory() if in_memory else loaded
    image = without_opaque_alpha(loaded)
    output = output_format(image, options.format)
    if max(int(image.width), int(image.get_page_height())) > MAX_SIDE[output]:
        return keep(header, target, options, limits, space)
    if options.variants and in_memory:
        image, space = in_srgb(image, space), None
    used = encode(image, space, target, output, options)
    properties = {
        "width": image.width,
        "height": image.get_page_height(),
        "frames": animation.frame_count(image),
        "duration": animation.duration_seconds(image),
        "thumbhash": None if options.variants else _placeholder(image, space, target, in_memory=in_memory),
    }
    if not saves_enough(target, header, output, options):
        target.unlink()
        path = strip_metadata(header.path, target, header.content_type, options, xmp_of(loaded))
        decoded = check_and_describe(path, target, header.content_type, **properties)
    else:
        properties["quality"] = None if options.ssim is None else used
        if animation.frame_count(image) > 1:
            properties |= animation.stored_timing(target)
        decoded = Decoded(path=target, content_type=CONTENT_TYPES[output], **properties)
    if options.variants and not in_memory:
        image = reopened(header, decoded, options)
    return with_variants(decoded, image, space, target, options)


def _placeholder(image: pyvips.Image, space: Space | None, target: Path, *, in_memory: bool) -> str:
    return placeholder_in_memory(image, space) if in_memory else placeholder_of_file(target)


def _open_checked(source: Path, content_type: str, limits: Limits) -> OpenedImage:
    """Read the header. Raises DecoderLimitError if the image exceeds `limits`, and the errors of `open_image`."""
    header = open_image(source, content_type)
    check_shape(header.width, header.height, header.pages, header.pixel_bytes, limits, is_animation=header.is_animated)
    return header


def _would_save_nothing(animated: OpenedImage, options: EncodeOptions) -> bool:
    """Whether the animation is a WebP file whose frames are quantized as coarsely already as we would encode them."""
    return animated.content_type == "image/webp" and webp.is_coarse(animated.path, options.quality)
