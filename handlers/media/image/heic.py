"""HEIC: boxes, and pictures coded as HEVC.

libheif decodes the pictures, through pillow-heif, since the libvips that we ship has no HEVC decoder. libheif reports
no error for damaged pixels. HEVC has no checksum, but its NAL units never contain certain bytes (ITU-T H.265, 7.4.2.1).
So a unit that contains these bytes (zeros in place of pixels), or does not end where its length says, is damaged.

libheif applies rotation and mirroring.
"""

import io
import re
import struct
from pathlib import Path
from typing import Any, Final

import pyvips
from pillow_heif import HeifFile, open_heif, options

from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError, FileTypeNotSupportedError
from handlers.media.formats import Content, Part, isobmff, mapped

options.DECODE_THREADS = 1  # several codec processes run at once already
options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
ERRORS: Final = (ValueError, EOFError, SyntaxError, RuntimeError, OSError)
"""The errors that pillow-heif raises, according to the documentation of HeifFile."""
BANDS: Final = {"L": 1, "I;16": 1, "LA": 2, "La": 2, "RGB": 3, "RGBA": 4, "RGBa": 4}
DEEP_GREY: Final = "I;16"
"""The mode of grey of more than 8 bits, which pillow-heif scales to 16 bits. Only colours are reduced to 8 bits."""
FORBIDDEN: Final = re.compile(rb"\0\0[\0-\2]")
"""Bytes that never occur inside a NAL unit."""
MAX_TRAILING_ZEROS: Final = 3
"""How many zeros may be at the end of a unit: some encoders write them."""
LENGTH_SIZE_OFFSET: Final = 21
"""Offset in `hvcC` of the byte whose last two bits are the size of a unit's length field, minus one
(ISO/IEC 14496-15, 8.3.3.1.2)."""
CODED_IMAGE: Final = b"hvc1"
"""The type of the items that are coded pictures or tiles."""


def check_content(content: Content) -> int:
    """Check the boxes, and that libheif finds an image in them; return where the last box ends.

    If bytes follow the last box, all images are decoded without these bytes, to prove that no image needs them.

    Raises:
        FileCorruptedError: a box is incomplete or missing, or libheif cannot read the boxes or finds no image.
    """
    end = isobmff.check_content(content)
    try:
        images = open_heif(io.BytesIO(content[:end]), convert_hdr_to_8bit=True)
        if end < len(content):
            for image in images:
                image.load()
    except ERRORS as error:
        raise FileCorruptedError(f"the image cannot be read: {error}") from None
    if len(images) == 0:
        raise FileCorruptedError("the file has no image")
    return end


def open_file(source: Path) -> HeifFile:
    """Check the coded data, and read the headers of the images without decoding them.

    When an image is decoded later, colours of more than 8 bits per sample are reduced to 8.

    Raises:
        FileCorruptedError: the file is damaged, incomplete, or not HEIC.
        FileTypeNotSupportedError: an image has pixels of a layout that we do not know.
        DecoderLimitError: the file exceeds a limit of libheif.
    """
    with mapped(source) as content:
        _check_units(content)
    try:
        file = open_heif(source, convert_hdr_to_8bit=True)
    except ERRORS as error:
        raise _translate(error) from None
    for picture in file:
        if picture.mode not in BANDS:
            raise FileTypeNotSupportedError(f"pixels of the mode {picture.mode} are not supported")
    return file


def decode(file: HeifFile, index: int) -> pyvips.Image:
    """Decode one of the file's images, and attach its ICC profile, EXIF and XMP.

    Raises:
        FileCorruptedError: the image does not decode.
        DecoderLimitError: the image exceeds a limit of libheif.
    """
    picture = file[index]
    try:
        content = picture.data
    except ERRORS as error:
        raise _translate(error) from None
    width, height = picture.size
    bands, is_deep = BANDS[picture.mode], picture.mode == DEEP_GREY
    image = pyvips.Image.new_from_memory(content, width, height, bands, "ushort" if is_deep else "uchar")
    grey = "grey16" if is_deep else "b-w"
    image = image.copy(interpretation=grey if bands < BANDS["RGB"] else "srgb")
    if picture.premultiplied_alpha:
        image = image.unpremultiply().cast("uchar")
    return _with_metadata(image, picture.info)


def _check_units(content: Content) -> None:
    """Check the NAL units of every coded picture and tile. If their tables cannot be read, leave the file to libheif.

    Raises:
        FileCorruptedError: a unit is damaged.
    """
    for meta in isobmff.meta_boxes(content):
        try:
            length_size = _length_size(content, meta)
            images = list(_coded_images(content, meta))
        except (struct.error, KeyError, IndexError, ValueError):
            return
        for units in images:
            _check_image(units, length_size)


def _length_size(content: Content, meta: dict[bytes, Part]) -> int:
    """Return the size in bytes of the length field before each unit.

    Raises:
        ValueError: the images have different sizes, or none.
    """
    (size,) = {
        content[box.body + LENGTH_SIZE_OFFSET] % 4 + 1
        for box in isobmff.properties(content, meta)
        if box.kind == b"hvcC"
    }
    return size


def _coded_images(content: Content, meta: dict[bytes, Part]) -> list[bytes]:
    types = isobmff.item_types(content, meta[b"iinf"])
    return [
        b"".join(content[offset : offset + size] for offset, size in extents)
        for item, method, extents in isobmff.item_locations(content, meta[b"iloc"])
        if types.get(item) == CODED_IMAGE and method == 0
    ]


def _check_image(units: bytes, length_size: int) -> None:
    at = 0
    while at < len(units):
        start = at + length_size
        at = start + int.from_bytes(units[at:start], "big")
        if at == start or at > len(units) or FORBIDDEN.search(units, start, at - MAX_TRAILING_ZEROS):
            raise FileCorruptedError(f"the image does not decode completely: its pixels are damaged at byte {start:,}")


def _translate(error: Exception) -> FileProcessingError:
    """Return DecoderLimitError for an error about a limit of libheif, else FileCorruptedError."""
    text = " ".join(str(error).split())[:300]
    if "limit exceeded" in text.lower() or "memory" in text.lower():
        return DecoderLimitError(f"decoding exceeds a limit of libheif: {text}")
    return FileCorruptedError(f"the image does not decode completely: {text}")


def _with_metadata(image: pyvips.Image, info: dict[str, Any]) -> pyvips.Image:
    image = image.copy()
    for name, key in (("icc-profile-data", "icc_profile"), ("exif-data", "exif"), ("xmp-data", "xmp")):
        if info.get(key):
            image.set_type(pyvips.GValue.blob_type, name, info[key])
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)  # EXIF's orientation would rotate it a second time
    return image
