"""Pages of a TIFF in CIELAB of 8 bits. Pillow decodes them, because libvips takes them for its own format LABQ."""

from pathlib import Path
from typing import Final

import pyvips
from PIL import Image

from handlers.errors import FileCorruptedError
from handlers.media.metadata import with_xmp, xmp_of_file

MODE: Final = "LAB"
ERRORS: Final = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, IndexError, KeyError, TypeError)
"""The errors that Pillow raises for a file that it cannot decode."""


def read_header(path: Path) -> tuple[int, int, int]:
    """Return width and height of the first page, and the number of pages. Raises FileCorruptedError."""
    try:
        with Image.open(path, formats=["TIFF"]) as picture:
            return picture.width, picture.height, getattr(picture, "n_frames", 1)
    except ERRORS as error:
        raise FileCorruptedError(f"the content is not image/tiff: {error}") from None


def decode(path: Path, page: int) -> pyvips.Image:
    """Decode the page with this number, from 0. Raises FileCorruptedError."""
    try:
        with Image.open(path, formats=["TIFF"]) as picture:
            picture.seek(page)
            content, mode, size = picture.tobytes(), picture.mode, picture.size
    except ERRORS as error:
        raise FileCorruptedError(f"the image does not decode completely: {error}") from None
    if mode != MODE:
        raise FileCorruptedError(f"page {page} of the image is not in CIELAB of 8 bits")
    image = pyvips.Image.new_from_memory(content, *size, 3, "uchar")
    # a and b are signed; TIFF stores them as two's complement
    image = ((image ^ [0, 128, 128]) * [100 / 255, 1, 1] - [0, 128, 128]).copy(interpretation="lab")
    xmp = xmp_of_file(path, "image/tiff")
    return with_xmp(image, xmp) if xmp else image
