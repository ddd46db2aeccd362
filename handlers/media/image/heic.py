"""HEIC: decoded by libheif through pillow-heif, since the libvips we ship with cannot decode HEVC.

The picture goes on through memory and is then handled like any other. libheif has turned and mirrored it already.
"""

from pathlib import Path
from typing import Any, Final

import pyvips
from pillow_heif import HeifFile, open_heif, options

from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError
from handlers.media.image.hevc_nal import check_units

options.DECODE_THREADS = 1  # the pool is the parallelism
options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
ERRORS: Final = (ValueError, EOFError, SyntaxError, RuntimeError, OSError)
"""What pillow-heif raises, as its HeifFile says."""
BANDS: Final = {"L": 1, "LA": 2, "La": 2, "RGB": 3, "RGBA": 4, "RGBa": 4}


def opened(source: Path) -> HeifFile:
    """Read what the file says of its pictures; nothing is decoded yet. Of more than 8 bits, 8 will be read.

    Raises:
        FileCorruptedError: it is cut short or damaged, or no HEIC.
        DecoderLimitError: libheif finds that it claims too much.
    """
    check_units(source)
    try:
        return open_heif(source, convert_hdr_to_8bit=True)
    except ERRORS as error:
        raise _translated(error) from None


def decoded(file: HeifFile, at: int) -> pyvips.Image:
    """Decode one of the file's pictures, with its profile and metadata beside it."""
    picture = file[at]
    try:
        content = picture.data
    except ERRORS as error:
        raise _translated(error) from None
    width, height = picture.size
    bands = BANDS[picture.mode]
    image = pyvips.Image.new_from_memory(content, width, height, bands, "uchar")
    image = image.copy(interpretation="b-w" if bands < BANDS["RGB"] else "srgb")
    if picture.premultiplied_alpha:
        image = image.unpremultiply().cast("uchar")
    return _with_metadata(image, picture.info)


def _translated(error: Exception) -> FileProcessingError:
    """Tell damage from the limits that libheif has of its own, against files that claim much."""
    text = " ".join(str(error).split())[:300]
    if "limit exceeded" in text.lower() or "memory" in text.lower():
        return DecoderLimitError(f"decoding takes too much: {text}")
    return FileCorruptedError(f"the content does not decode whole: {text}")


def _with_metadata(image: pyvips.Image, info: dict[str, Any]) -> pyvips.Image:
    image = image.copy()
    for name, key in (("icc-profile-data", "icc_profile"), ("exif-data", "exif"), ("xmp-data", "xmp")):
        if info.get(key):
            image.set_type(pyvips.GValue.blob_type, name, info[key])
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)  # else EXIF's word would turn it once more
    return image
