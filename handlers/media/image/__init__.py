"""Images: decoded whole and compressed in the same pass. Runs in a codec process.

What an image becomes: see `_wanted`. Whatever is asked, a stored image is never larger than its original (which is
kept instead), never turned, never of another colour, and never loses transparency or animation: what no format holds
(an APNG's frames, a document's pages, HDR) is kept as it is.
"""

import math
from pathlib import Path
from typing import Any, Final

import pyvips

from handlers.media import Limits, Prepared, Recipe
from handlers.media.describe import describe, written
from handlers.media.image import animation, second_decoder
from handlers.media.image.colour import Space, in_srgb
from handlers.media.image.colour_tags import HdrError, brands, is_film, space_of
from handlers.media.image.limits import check_shape, check_webp, within
from handlers.media.image.loader import Opened, opened
from handlers.media.image.thumbhash import thumbhash
from handlers.media.metadata import carried, cleaned, provenance, xmp_of
from schemas.formats import ImageFormat

CONTENT_TYPES: Final = {"jpeg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
MAX_SIDE: Final = {"jpeg": 65_500, "webp": 16_383, "avif": 16_384}
"""Longest side in pixels each format can hold; larger images are kept."""
PLACEHOLDER_SIDE: Final = 16
"""Pixels of a placeholder's longer side: the hash holds seven waves at most, which more pixels hardly change."""
AT_HAND_BYTES: Final = 8 << 20
"""Images of up to this size are decoded to memory: that costs nothing, and a placeholder from there 0.5 ms, not 2.6."""
RGB: Final = 3
MOST_BANDS: Final = 4
"""Three colours and transparency, or four inks; what has more is kept."""
SEQUENCES: Final = frozenset({b"hevc", b"hevx", b"msf1"})
"""The brands of a HEIC that holds a film beside its picture."""


def prepare(source: Path, target: Path, content_type: str, recipe: Recipe, limits: Limits) -> Prepared:
    """Validate an image whole and compress it to `target`; the original is kept where that gains nothing.

    Raises:
        FileCorruptedError: it is not what `content_type` says, or does not decode whole.
        DecoderLimitError: it has more frames, pixels or bytes, all frames together, than `limits` allow.
    """
    if is_film(source, content_type):
        return _film(source, target, content_type, recipe, limits)
    header = _header(source, content_type, limits)
    try:
        space = space_of(source, content_type)
    except HdrError:
        return _kept(header, target, recipe, limits)
    if _must_be_kept(header, recipe):
        return _kept(header, target, recipe, limits)
    at_hand = _is_at_hand(header)
    image = header.load(in_order=at_hand or not header.has_alpha)
    image = image.copy_memory() if at_hand else image
    flat = _without_idle_alpha(image)
    wanted = _wanted(flat, recipe.format)
    if not _fits(flat, wanted):
        return _kept(header, target, recipe, limits)
    _write(flat, space, target, wanted, recipe)
    hashed = _at_once(flat, space) if at_hand else _placeholder(pyvips.Image.thumbnail(str(target), PLACEHOLDER_SIDE))
    shape = {
        "width": flat.width,
        "height": flat.get_page_height(),
        "frames": animation.frames(flat),
        "duration": animation.seconds(flat),
        "thumbhash": hashed,
    }
    if target.stat().st_size >= source.stat().st_size:
        target.unlink()
        return describe(cleaned(source, target, content_type, recipe, xmp_of(image)), content_type, **shape)
    return written(target, CONTENT_TYPES[wanted], **shape)


def _header(source: Path, content_type: str, limits: Limits) -> Opened:
    """Read the header, refuse what would be too large to decode, and then what only a strict decoder notices."""
    if content_type == "image/webp":
        check_webp(source, limits)
    header = opened(source, content_type)
    check_shape(header.width, header.height, header.pages, header.pixel_bytes, limits)
    second_decoder.check(source, content_type)
    return header


def _is_at_hand(header: Opened) -> bool:
    """Whether all pixels are decoded to memory, once for both who want them."""
    return header.pages == 1 and header.width * header.height * header.pixel_bytes <= AT_HAND_BYTES


def _at_once(flat: pyvips.Image, space: Space | None) -> str:
    """Hash a picture that is at hand."""
    factor = math.ceil(max(flat.width, flat.height) / PLACEHOLDER_SIDE)  # a whole number takes half as long
    if flat.hasalpha() or factor > min(flat.width, flat.height):
        return _placeholder(in_srgb(flat, space).thumbnail_image(PLACEHOLDER_SIDE))
    return _placeholder(flat.shrink(factor, factor), space)  # takes half of what the other does


def _must_be_kept(header: Opened, recipe: Recipe) -> bool:
    """Whether re-encoding was not asked for, would lose pages or inks, or would break a signature that is to stay."""
    if recipe.format is ImageFormat.KEEP or header.bands > MOST_BANDS:
        return True
    if header.pages > 1 and not header.is_animated:
        return True
    if header.content_type == "image/heic" and brands(header.path) & SEQUENCES:
        return True
    return recipe.keep_provenance and provenance.has_manifest(header.path, header.content_type)


def _kept(header: Opened, target: Path, recipe: Recipe, limits: Limits) -> Prepared:
    """Decode every page and keep the file as it is."""
    image = header.load(in_order=False)
    image.avg()
    for page in within(limits, header.width * header.height, header.other_pages()):
        page.avg()
    first = image.crop(0, 0, image.width, image.get_page_height())
    path = cleaned(header.path, target, header.content_type, recipe, xmp_of(image))
    return describe(
        path,
        header.content_type,
        width=first.width,
        height=first.height,
        frames=header.pages,
        duration=animation.seconds(image),
        thumbhash=_placeholder(first.thumbnail_image(PLACEHOLDER_SIDE)),
    )


def _film(source: Path, target: Path, content_type: str, recipe: Recipe, limits: Limits) -> Prepared:
    """Decode every frame of what libvips reads one of, and keep the file as it is."""
    first, frames, seconds = animation.read(source, limits)
    path = cleaned(source, target, content_type, recipe, None)
    small = _placeholder(first.thumbnail_image(PLACEHOLDER_SIDE))
    shape = {"width": first.width, "height": first.height, "frames": frames, "duration": seconds, "thumbhash": small}
    return describe(path, content_type, **shape)


def _without_idle_alpha(image: pyvips.Image) -> pyvips.Image:
    """Drop an alpha channel that is opaque everywhere."""
    if not image.hasalpha():
        return image
    alpha = image[image.bands - 1]
    opaque = {"ushort": 65535, "uchar": 255}.get(image.format)
    if opaque is None or alpha.min() < opaque:
        return image
    return image.extract_band(0, n=image.bands - 1)


def _wanted(image: pyvips.Image, asked: ImageFormat) -> str:
    """Choose the format: JPEG holds neither transparency nor animation, and only WebP animates."""
    if animation.frames(image) > 1:
        return "webp"
    if asked in {ImageFormat.AUTO, ImageFormat.JPEG}:
        return "webp" if image.hasalpha() else "jpeg"
    return asked.value


def _fits(image: pyvips.Image, wanted: str) -> bool:
    return max(int(image.width), int(image.get_page_height())) <= MAX_SIDE[wanted]


def _write(image: pyvips.Image, space: Space | None, target: Path, wanted: str, recipe: Recipe) -> None:
    """Encode, which pulls the whole image through its decoder."""
    image, keep = carried(image, recipe)
    options: dict[str, Any] = {"Q": recipe.quality, "keep": keep}
    image = in_srgb(image, space)
    if wanted == "jpeg":
        # Optimised Huffman tables cost a quarter more time for 2% of the bytes.
        image.jpegsave(str(target), **options)
    elif wanted == "webp":
        image = animation.with_timing(image) if animation.frames(image) > 1 else image
        # Effort 4, the default, takes twice as long as 2 for 5% of the bytes.
        image.webpsave(str(target), effort=2, **options)
    else:
        image.heifsave(str(target), compression="av1", effort=3, bitdepth=8, **options)


def _placeholder(small: pyvips.Image, space: Space | None = None) -> str:
    """Hash a picture of at most PLACEHOLDER_SIDE pixels a side."""
    if max(small.width, small.height) > PLACEHOLDER_SIDE:
        small = small.thumbnail_image(PLACEHOLDER_SIDE)
    if small.bands > MOST_BANDS:
        small = small.extract_band(0, n=3).copy(interpretation="srgb")  # inks of no known colour
    small = in_srgb(small, space)
    small = small.colourspace("srgb") if small.bands < RGB else small
    return thumbhash(small.width, small.height, bytes(small.write_to_memory()), small.bands)
