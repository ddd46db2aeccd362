"""Animation: how long each frame shows and how often all of it plays, told alike in every format.

GIF and WebP are composited by libvips, frame by frame, which leaves nothing to disposal methods. APNG and AVIF
sequences, which libvips does not read, are kept as they are; Pillow counts and decodes their frames.
"""

from pathlib import Path
from typing import Final

import pyvips

from handlers.errors import FileCorruptedError
from handlers.media import Limits
from handlers.media.image.limits import check_shape

MILLISECONDS: Final = 1000
SHORTEST: Final = 10
"""Browsers show a frame that asks for this many milliseconds or fewer for LEAST instead, GIF and WebP alike."""
LEAST: Final = 100
RGBA_BYTES: Final = 4


def frames(image: pyvips.Image) -> int:
    """Count the frames of an image that was opened with all of them, one below the other."""
    return int(image.height // image.get_page_height())


def delays(image: pyvips.Image) -> list[int]:
    """Return the milliseconds each frame shows, as browsers play it."""
    told = list(image.get("delay")) if image.get_typeof("delay") else []
    return [_played(delay) for delay in (told + [0] * frames(image))[: frames(image)]]


def seconds(image: pyvips.Image) -> float | None:
    """Return how long it plays once; None for a picture that stands still."""
    return sum(delays(image)) / MILLISECONDS if frames(image) > 1 else None


def with_timing(image: pyvips.Image) -> pyvips.Image:
    """Write the delays that are played into the image, for its encoder."""
    timed = image.copy()
    timed.set_type(pyvips.GValue.array_int_type, "delay", delays(image))
    return timed


def read(source: Path, limits: Limits) -> tuple[pyvips.Image, int, float]:
    """Decode every frame of an APNG or AVIF sequence; return the first, their number, and the seconds they play.

    Raises:
        FileCorruptedError: a frame does not decode.
        DecoderLimitError: there are more frames, or pixels in all of them, than `limits` allow.
    """
    from PIL import Image  # noqa: PLC0415 - rarely needed

    Image.MAX_IMAGE_PIXELS = None  # limits are ours
    try:
        with Image.open(source) as film:
            number = getattr(film, "n_frames", 1)
            check_shape(film.width, film.height, number, RGBA_BYTES, limits)
            played, first = 0, b""
            for at in range(number):
                film.seek(at)
                film.load()
                first = first or film.convert("RGBA").tobytes()
                played += _played(film.info.get("duration") or 0)
            image = pyvips.Image.new_from_memory(first, film.width, film.height, 4, "uchar")
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError) as error:
        raise FileCorruptedError(f"a frame does not decode: {error}") from None
    return image.copy(interpretation="srgb"), number, played / MILLISECONDS


def _played(delay: float) -> int:
    return LEAST if delay <= SHORTEST else round(delay)
