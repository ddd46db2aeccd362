"""Metadata: what goes into a file that is written anew, and what stays of it in a file that is kept.

Nothing private stays by accident: with STRIP_METADATA all goes, GPS first of all, but what a viewer needs to show the
picture rightly. Without it EXIF, XMP and IPTC are carried over; orientation is reset, since the picture was turned, and
the profile goes, since its colours are sRGB.
"""

import re
from pathlib import Path
from typing import Final

import pyvips

from handlers.media import Recipe
from handlers.media.metadata import provenance
from handlers.media.metadata.scrub import scrubbed
from schemas.formats import ImageFormat

ALL: Final = "exif|xmp|iptc"
ORIENTATION: Final = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[2-8]")


def xmp_of(image: pyvips.Image) -> bytes | None:
    """Return the image's XMP packet."""
    return bytes(image.get("xmp-data")) if image.get_typeof("xmp-data") else None


def carried(image: pyvips.Image, recipe: Recipe) -> tuple[pyvips.Image, str]:
    """Return the image with the metadata that is to be written, and libvips' name for it (`keep`)."""
    xmp = xmp_of(image)
    if not recipe.strip_metadata:
        return (_with_xmp(image, ORIENTATION.sub(rb"\g<1>1", xmp)) if xmp else image), ALL
    said = provenance.statement(xmp) if recipe.keep_provenance else None
    return (_with_xmp(image, said), "xmp") if said else (image, "none")


def cleaned(source: Path, target: Path, content_type: str, recipe: Recipe, xmp: bytes | None) -> Path:
    """Return the file to store for an original that is kept: without its metadata, where that was asked.

    No pixel is coded anew. Format `keep` means the very bytes; where nothing is to go, the source itself is returned,
    and where a signature is to stay.
    """
    if recipe.keep_provenance and provenance.has_manifest(source, content_type):
        return source
    if not recipe.strip_metadata or recipe.format is ImageFormat.KEEP:
        return source
    said = provenance.statement(xmp) if recipe.keep_provenance else None
    before = source.read_bytes()
    after = scrubbed(before, content_type, said)
    if after is None or after == before or len(after) > len(before):
        return source
    target.write_bytes(after)
    return target


def _with_xmp(image: pyvips.Image, xmp: bytes) -> pyvips.Image:
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)
    return image
