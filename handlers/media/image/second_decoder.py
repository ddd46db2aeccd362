"""A second decoder for what libvips is lenient with. Runs in a codec process, after the limits have been checked.

Of a GIF's frame that lacks pixels libvips shows what is left, and says nothing. An AVIF is shown by browsers through
libavif, which refuses what libheif, libvips' decoder, takes.
"""

import io
from pathlib import Path
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import end_of

DECODERS: Final = {"image/gif": "GIF", "image/avif": "AVIF"}
"""Pillow's names of the formats that are decoded twice."""
ERRORS: Final = (ValueError, SyntaxError, OSError, EOFError, RuntimeError)
"""What Pillow raises of a file that it cannot decode."""


def check(source: Path, content_type: str) -> None:
    """Decode every frame, where a type wants it; what follows the file's end is left out.

    Raises:
        FileCorruptedError: a frame does not decode whole.
    """
    if content_type not in DECODERS:
        return
    from PIL import Image, ImageSequence  # noqa: PLC0415 - rarely needed

    Image.MAX_IMAGE_PIXELS = None  # limits are ours
    with source.open("rb") as file:
        content = file.read(end_of(source, content_type))
    try:
        with Image.open(io.BytesIO(content), formats=[DECODERS[content_type]]) as image:
            for frame in ImageSequence.Iterator(image):
                frame.load()
    except ERRORS as error:
        if content_type == "image/avif" and "Exif" in str(error):
            return  # browsers do not read that
        raise FileCorruptedError(f"the image does not decode whole: {error}") from None
