"""Reasons to keep an image instead of encoding it, mostly that our output formats cannot hold all of it."""

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
"""Three colours and alpha, or four inks."""
HEIC_SEQUENCES: Final = frozenset({b"hevc", b"hevx", b"msf1"})
"""Brands of HEIC files that contain an image sequence besides the primary image."""
GAIN_MAP: Final = b"tmap"
"""The type of the item that applies a gain map to the image (ISO/IEC 23008-12, Amendment 1)."""
SIGNED: Final = frozenset({"char", "short", "int", "complex", "dpcomplex"})
DEEP: Final = frozenset({"uint", "float", "double"})
LAB: Final = frozenset({"lab", "labs", "labq"})


def must_keep(header: OpenedImage, options: EncodeOptions) -> bool:
    """Whether to keep the image: encoding was not requested, would lose data, or would break a C2PA manifest."""
    if options.format is ImageFormat.KEEP or header.bands > MAX_BANDS or header.is_kept:
        return True
    if header.pages > 1 and not header.is_animated:
        return True
    if _has_other_pictures(header) or has_unknown_alpha(header) or _exceeds_display_range(header):
        return True
    return options.keep_provenance and provenance.has_manifest(header.path, header.content_type)


def fits_in_8_bits(header: OpenedImage) -> bool:
    """Whether 8-bit sRGB can show the image as intended, without a last channel of unknown meaning."""
    return header.bands <= MAX_BANDS and not _exceeds_display_range(header)


def has_unknown_alpha(header: OpenedImage) -> bool:
    """Whether libvips takes a channel of unknown meaning for alpha (TIFF 6.0, ExtraSamples 0)."""
    return header.content_type == "image/tiff" and header.has_alpha and has_unknown_channel(header.path)


def _has_other_pictures(header: OpenedImage) -> bool:
    """Whether the file has something besides the image.

    In JPEG: other pictures, such as a gain map or the second one of a stereo pair. In AVIF: a gain map. In HEIC: an
    image sequence. False for other types.
    """
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
    """Whether 8 bits cannot show the samples: they are measurements, such as a depth map, or beyond black or white.

    Measurements are samples that are signed or complex, and grey of 32 bits or more. Colours of these depths between
    black and white are not: in 8 bits they are only rounded.
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
