"""GIF: blocks up to the trailer (GIF89a, sections 18 to 27).

The pixels are decoded by Pillow, since libvips shows what is left of a frame that lacks some, and says nothing.
"""

import io
import warnings
from typing import Final

from PIL import Image, ImageSequence

from handlers.errors import FileCorruptedError
from handlers.media.layout import Content

FIRST_BLOCK: Final = 13
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B


def end(content: Content) -> int:
    """Return where the image ends: after its trailer."""
    if content[:6] not in {b"GIF87a", b"GIF89a"}:
        raise FileCorruptedError("the image does not begin as a GIF")
    at = FIRST_BLOCK + _palette(content[10])
    while (block := content[at]) != TRAILER:
        if block == EXTENSION:
            at += 2
        elif block == IMAGE:
            at += 11 + _palette(content[at + 9])
        else:
            raise FileCorruptedError(f"the image has no block at {at:,}, where one must stand")
        while length := content[at]:
            at += 1 + length
        at += 1
    _check_frames(content[: at + 1])
    return at + 1


def _check_frames(content: bytes) -> None:
    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(content), formats=["GIF"]) as image,
        ):
            for frame in ImageSequence.Iterator(image):
                frame.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise FileCorruptedError(f"the image does not decode whole: {error}") from None


def _palette(flags: int) -> int:
    """Return the bytes of the colour table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
