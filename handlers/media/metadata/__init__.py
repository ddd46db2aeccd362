"""Metadata: what is written to an encoded file, and what is removed from a kept one.

With STRIP_METADATA, metadata such as GPS is removed. What a viewer needs to show the image correctly stays. A kept GIF
or BigTIFF file is not changed. Without STRIP_METADATA, EXIF, XMP and IPTC are copied to an encoded file; orientation is
reset, since it was applied to the pixels, and the ICC profile is removed, since the colours are sRGB.
"""

import re
from pathlib import Path
from typing import Final

import pyvips

from handlers.media import EncodeOptions
from handlers.media.metadata import provenance
from handlers.media.metadata.scrub import remove_metadata
from schemas.formats import ImageFormat

ALL: Final = "exif|xmp|iptc"
ORIENTATION: Final = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[2-8]")


def xmp_of(image: pyvips.Image) -> bytes | None:
    """Return the XMP packet of an image."""
    return bytes(image.get("xmp-data")) if image.get_typeof("xmp-data") else None


def select_metadata(image: pyvips.Image, options: EncodeOptions) -> tuple[pyvips.Image, str]:
    """Return the image with the metadata to write, and the value of libvips' option `keep` for it."""
    xmp = xmp_of(image)
    if not options.strip_metadata:
        return (_with_xmp(image, ORIENTATION.sub(rb"\g<1>1", xmp)) if xmp else image), ALL
    statement = provenance.extract_statement(xmp) if options.keep_provenance else None
    return (_with_xmp(image, statement), "xmp") if statement else (image, "none")


def strip_metadata(source: Path, target: Path, content_type: str, options: EncodeOptions, xmp: bytes | None) -> Path:
    """Write a kept original to `target` without its metadata, and return `target`; pixels are not encoded again.

    Return `source` if nothing has to be removed, the file's metadata cannot be removed, the format is `keep`, or the
    file has a signature that must stay.
    """
    if options.keep_provenance and provenance.has_manifest(source, content_type):
        return source
    if not options.strip_metadata or options.format is ImageFormat.KEEP:
        return source
    statement = provenance.extract_statement(xmp) if options.keep_provenance else None
    before = source.read_bytes()
    after = remove_metadata(before, content_type, statement)
    if after is None or after == before or len(after) > len(before):
        return source
    target.write_bytes(after)
    return target


def _with_xmp(image: pyvips.Image, xmp: bytes) -> pyvips.Image:
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)
    return image
