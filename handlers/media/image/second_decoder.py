"""A second decoder for formats in which libvips accepts damage. Runs in a codec process, after the limits are checked.

libvips shows what is left of a GIF frame that lacks pixels, without an error. Browsers show AVIF through libavif, which
refuses files that libheif, the decoder of libvips, accepts.
"""

from pathlib import Path
from typing import Final

from handlers.errors import FileCorruptedError

DECODERS: Final = {"image/gif": "GIF", "image/avif": "AVIF"}
"""Pillow's names of the formats that are decoded twice."""
ERRORS: Final = (ValueError, SyntaxError, OSError, EOFError, RuntimeError)
"""The errors that Pillow raises for a file that it cannot decode."""


def check(source: Path, content_type: str) -> None:
    """Decode every frame of a file that ends with its format, if the type is in DECODERS.

    Raises:
        FileCorruptedError: a frame does not decode completely.
    """
    if content_type not in DECODERS:
        return
    from PIL import Image, ImageSequence  # noqa: PLC0415 - rarely needed

    Image.MAX_IMAGE_PIXELS = None  # we have checked our own limits
    try:
        with Image.open(source, formats=[DECODERS[content_type]]) as image:
            for frame in ImageSequence.Iterator(image):
                frame.load()
    except ERRORS as error:
        if content_type == "image/avif" and "Exif" in str(error):
            return  # browsers do not read EXIF
        raise FileCorruptedError(f"the image does not decode completely: {error}") from None
