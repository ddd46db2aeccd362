"""Which images are kept as they are, because what we would store cannot hold all of them."""

import math
import struct
from typing import Final

import pyvips

from handlers.errors import FileCorruptedError
from handlers.media import EncodeOptions
from handlers.media.formats import isobmff, jpeg, mapped
from handlers.media.image.colour_tags import brands
from handlers.media.image.loader import OpenedImage
from handlers.media.image.tiff_kinds import has_unknown_channel
from handlers.media.metadata import provenance
from schemas.formats import ImageFormat

MAX_BANDS: Final = 4
"""Three colours and transparency, or four inks."""
HEIC_SEQUENCES: Final = frozenset({b"hevc", b"hevx", b"msf1"})
"""Brands of HEIC files that contain an image sequence besides the primary image."""
GAIN_MAP: Final = b"tmap"
"""The type of the item that applies a gain map (ISO/IEC 23008-12, Amendment 1)."""
SIGNED: Final = frozenset({"char", "short", "int", "complex", "dpcomplex"})
DEEP: Final = frozenset({"uint", "float", "double"})
LAB: Final = frozenset({"lab", "labs", "labq"})


def must_keep(header: OpenedImage, options: EncodeOptions) -> bool:
    """Whether encoding was not requested, would lose data, or would break a signature that must stay."""
    if options.format is ImageFormat.KEEP or header.bands > MAX_BANDS or header.is_kept:
        return True
    if header.pages > 1 and not header.is_animated:
        return True
    if _has_other_pictures(header) or has_unknown_alpha(header) or _exceeds_display_range(header):
        return True
    return options.keep_provenance and provenance.has_manifest(header.path, header.content_type)


def can_be_shown(header: OpenedImage) -> bool:
    """Whether a version of 8 bits in three colours shows the image as it is meant, apart from an unknown channel."""
    return header.bands <= MAX_BANDS and not _exceeds_display_range(header)


def has_unknown_alpha(header: OpenedImage) -> bool:
    """Whether the last channel, which libvips takes for transparency, is something else (TIFF 6.0, ExtraSamples 0)."""
    return header.content_type == "image/tiff" and header.has_alpha and has_unknown_channel(header.path)


def _has_other_pictures(header: OpenedImage) -> bool:
    """Whether the file has a picture or a gain map besides the image, for stereo or HDR displays."""
    if header.content_type == "image/heic":
        return bool(brands(header.path) & HEIC_SEQUENCES)
    if header.content_type not in {"image/jpeg", "image/avif"}:
        return False
    with mapped(header.path) as content:
        if header.content_type == "image/jpeg":
            return bool(jpeg.other_pictures(content))
        try:
            types = [isobmff.item_types(content, meta[b"iinf"]) for meta in isobmff.meta_boxes(content)]
        except (KeyError, IndexError, ValueError, struct.error, FileCorruptedError):
            return False
    return any(GAIN_MAP in found.values() for found in types)


def _exceeds_display_range(header: OpenedImage) -> bool:
    """Whether the samples are measurements, such as a depth map, or lie beyond black and white.

    8 bits cannot hold them. Colours of 32 bits between black and white are only rounded.
    """
    image = header.image
    if image is None or image.interpretation in LAB or image.format not in SIGNED | DEEP:
        return False
    colours = header.bands - header.has_alpha
    if image.format in SIGNED or colours == 1:
        return True
    return image.format != "uint" and not _is_between_black_and_white(header.load(sequential=False), colours)


def _is_between_black_and_white(image: pyvips.Image, colours: int) -> bool:
    statistics = image.extract_band(0, n=colours).stats()
    smallest, largest, total = (statistics.getpoint(at, 0)[0] for at in range(3))
    return bool(smallest >= 0 and largest <= 1 and math.isfinite(total))  # the sum is not finite if any sample is not
