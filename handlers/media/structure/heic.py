"""HEIC: the boxes all there, and what they refer to within them, as libheif reads them."""

import io
from typing import Final

import pillow_heif

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content, boxes

ERRORS: Final = (ValueError, EOFError, SyntaxError, RuntimeError, OSError)
"""What pillow-heif raises of a file that it cannot open."""


def end(content: Content) -> int:
    """Return where the last box ends. Nothing is decoded, unless something follows: the pictures must do without it.

    Raises:
        FileCorruptedError: a box is cut short or missing, or libheif cannot read them, or finds no picture.
    """
    last = boxes.end(content)
    try:
        pictures = pillow_heif.open_heif(io.BytesIO(content[:last]), convert_hdr_to_8bit=True)
        if last < len(content):
            for picture in pictures:
                picture.load()
    except ERRORS as error:
        raise FileCorruptedError(f"the image cannot be read: {error}") from None
    if len(pictures) == 0:
        raise FileCorruptedError("the file has no picture")
    return last
