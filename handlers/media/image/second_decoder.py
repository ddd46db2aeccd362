"""A second decoder for GIF and AVIF, because libvips accepts damaged files. Runs after the limits are checked.

libvips decodes a GIF frame that lacks pixels without an error. Browsers decode AVIF with libavif, which refuses some
files that libheif, the decoder of libvips, accepts.
"""

from pathlib import Path
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import gif, mapped

ERRORS: Final = (ValueError, SyntaxError, OSError, EOFError, RuntimeError)
"""The errors that Pillow raises for a file that it cannot decode."""


def check(source: Path, content_type: str) -> None:
    """Decode every frame of a GIF or AVIF file with Pillow; do nothing for other types.

    The file must have no bytes after the end that its format defines.

    Raises:
        FileCorruptedError: a frame does not decode completely.
    """
    if content_type not in {"image/gif", "image/avif"}:
        return
    try:
        if content_type == "image/gif":
            _decode_gif(source)
        else:
            _decode_avif(source)
    except ERRORS as error:
        if content_type == "image/avif" and "Exif" in str(error):
            return  # only the EXIF is damaged, which browsers do not read
        raise FileCorruptedError(f"the image does not decode completely: {error}") from None


def _decode_gif(source: Path) -> None:
    """Decode the pixels of each frame by itself. Composing the frames, as Pillow does, would take ten times as long."""
    from PIL import Image  # noqa: PLC0415 - rarely needed

    with mapped(source) as content:
        for frame in gif.frames(content):
            size, no_transparency = (frame.width, frame.height), -1
            Image.frombytes("L", size, frame.data, "gif", (frame.code_bits, frame.is_interlaced, no_transparency))


def _decode_avif(source: Path) -> None:
    from PIL import Image, ImageSequence  # noqa: PLC0415 - rarely needed

    Image.MAX_IMAGE_PIXELS = None  # we have checked our own limits
    with Image.open(source, formats=["AVIF"]) as image:
        for frame in ImageSequence.Iterator(image):
            frame.load()
