"""AVIF: the boxes all there, and such as libavif reads, by which browsers show it; libheif is less strict."""

import io
from typing import Final

from PIL import Image

from handlers.errors import FileCorruptedError
from handlers.media.layout import Content, boxes

ERRORS: Final = (ValueError, SyntaxError, OSError, EOFError, RuntimeError)
"""What Pillow raises of a file that it cannot open."""


def end(content: Content) -> int:
    """Return where the last box ends. Nothing is decoded, unless something follows: the picture must do without it.

    Raises:
        FileCorruptedError: a box is cut short or missing, or libavif cannot read them.
    """
    last = boxes.end(content)
    try:
        with Image.open(io.BytesIO(content[:last]), formats=["AVIF"]) as image:
            if last < len(content):
                image.load()
    except ERRORS as error:
        if "Exif" not in str(error):  # browsers do not read that
            raise FileCorruptedError(f"the image is no AVIF that browsers read: {error}") from None
    return last
