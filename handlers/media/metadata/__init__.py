"""Metadata: what is written to an encoded image, and what is removed from an original that is kept.

With STRIP_METADATA, metadata such as GPS is removed. What a viewer needs to show the image correctly stays. Originals
of the types in `scrub.FORMATS` are cleaned, except BigTIFF; originals of other types (GIF, TGA, ICO, OpenEXR, ...) are
stored with their metadata. Without STRIP_METADATA, EXIF, XMP and IPTC are copied to an encoded image; the orientation
is reset, since it was applied to the pixels, and the ICC profile is removed, since the colours are sRGB. Of pictures
that Pillow decodes (`still.pillow_decoder`), EXIF and XMP of JPEG 2000 and PSD are copied, and nothing of others.
"""

import re
from pathlib import Path
from typing import Final

import pyvips

from handlers.media import EncodeOptions
from handlers.media.formats import mapped
from handlers.media.metadata import provenance
from handlers.media.metadata.scrub import remove_metadata
from handlers.media.metadata.scrub_tiff import xmp_in_tiff
from schemas.formats import ImageFormat

ALL: Final = "exif|xmp|iptc"
ORIENTATION: Final = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[2-8]")


def xmp_of(image: pyvips.Image) -> bytes | None:
    """Return the XMP packet of an image; None if it has none."""
    return bytes(image.get("xmp-data")) if image.get_typeof("xmp-data") else None


def xmp_of_file(source: Path, content_type: str) -> bytes | None:
    """Return the XMP packet of a TIFF, PNG or AVIF file that libvips does not decode; None if it has none."""
    if content_type == "image/tiff":
        with mapped(source) as content:
            return xmp_in_tiff(content)
    from PIL import Image  # noqa: PLC0415 - rarely needed

    with Image.open(source) as picture:
        xmp = picture.info.get("xmp")
    return bytes(xmp) if isinstance(xmp, bytes) else None


def select_metadata(image: pyvips.Image, options: EncodeOptions) -> tuple[pyvips.Image, str]:
    """Return the image with the metadata to write, and the value of libvips' option `keep` that writes it."""
    xmp = xmp_of(image)
    if not options.strip_metadata:
        return (with_xmp(image, ORIENTATION.sub(rb"\g<1>1", xmp)) if xmp else image), ALL
    statement = provenance.extract_statement(xmp) if options.keep_provenance else None
    return (with_xmp(image, statement), "xmp") if statement else (image, "none")


def strip_metadata(source: Path, target: Path, content_type: str, options: EncodeOptions, xmp: bytes | None) -> Path:
    """Write an original that is kept to `target` without its metadata, and return `target`. Its pixels are copied.

    `xmp` is the XMP packet of the image, from which KEEP_PROVENANCE keeps the statements. Return `source`, with all
    metadata, if STRIP_METADATA is off, the format is `keep`, the file has a C2PA manifest that must stay, the type is
    not supported, or the file has no metadata.
    """
    if options.keep_provenance and provenance.has_manifest(source, content_type):
        return source
    if not options.strip_metadata or options.format is ImageFormat.KEEP:
        return source
    statement = provenance.extract_statement(xmp) if options.keep_provenance else None
    before = source.read_bytes()
    after = remove_metadata(before, content_type, statement)
    if after is None or after == before:
        return source
    target.write_bytes(after)
    return target


def with_xmp(image: pyvips.Image, xmp: bytes) -> pyvips.Image:
    """Return the image with an XMP packet in place of its own."""
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)
    return image
