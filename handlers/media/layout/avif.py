"""AVIF: the boxes all there, and such as libavif decodes, by which browsers show it; libheif is less strict."""

import io
from typing import Final

from PIL import Image, ImageSequence

from handlers.errors import FileCorruptedError
from handlers.media.layout import Content, boxes

ERRORS: Final = (ValueError, SyntaxError, OSError, EOFError, RuntimeError)
"""What Pillow raises of a file that it cannot open."""


def end(content: Content) -> int:
    """Return where the last box ends. The picture is decoded, all frames of a sequence.

    Raises:
        FileCorruptedError: a box is cut short or missing, or libavif cannot read them.
    """
    last = boxes.end(content)
    try:
        with Image.open(io.BytesIO(content[:last]), formats=["AVIF"]) as image:
            for frame in ImageSequence.Iterator(image):
                frame.load()
    except ERRORS as error:
        if "Exif" not in str(error):  # browsers do not read that
            raise FileCorruptedError(f"the image is no AVIF that browsers read: {error}") from None
    return last
