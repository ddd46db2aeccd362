"""Animations: how long each frame is shown, in every format.

libvips composes the frames of GIF and WebP, so disposal methods need no care here. APNG and AVIF sequences, which
libvips does not read, and animations that would take too long to encode are kept as they are; Pillow counts and decodes
their frames, one after the other.
"""

from pathlib import Path
from typing import Final

import pyvips

from handlers.errors import FileCorruptedError
from handlers.media import Limits
from handlers.media.image.colour_tags import brands, read_png_tags
from handlers.media.image.limits import check_shape

MILLISECONDS: Final = 1000
TOO_SHORT_MS: Final = 10
"""Browsers show a frame with this delay or a shorter one for DEFAULT_MS instead, in GIF and WebP."""
DEFAULT_MS: Final = 100
RGBA_BYTES: Final = 4
SEQUENCE: Final = b"avis"
"""The brand of AVIF sequences."""


def is_animation(source: Path, content_type: str) -> bool:
    """Whether it is an APNG or an AVIF sequence, of which libvips reads one frame at most."""
    if content_type == "image/png":
        return b"acTL" in read_png_tags(source)
    return content_type == "image/avif" and SEQUENCE in brands(source)


def frame_count(image: pyvips.Image) -> int:
    """Count the frames of an image that was opened with all of them, one below the other."""
    return int(image.height // image.get_page_height())


def frame_delays(image: pyvips.Image) -> list[int]:
    """Return the milliseconds for which browsers show each frame."""
    delays = list(image.get("delay")) if image.get_typeof("delay") else []
    return [_shown_delay(delay) for delay in (delays + [0] * frame_count(image))[: frame_count(image)]]


def duration_seconds(image: pyvips.Image) -> float | None:
    """Return the duration of one loop; None for a still image."""
    return sum(frame_delays(image)) / MILLISECONDS if frame_count(image) > 1 else None


def stored_timing(target: Path) -> dict[str, float | None]:
    """Return the frames and the duration of an encoded animation. The encoder merges frames that are equal."""
    header = pyvips.Image.webpload(str(target))
    frames = int(header.get("n-pages"))
    return {"frames": frames, "duration": sum(header.get("delay")) / MILLISECONDS if frames > 1 else None}


def with_timing(image: pyvips.Image) -> pyvips.Image:
    """Set the delays that browsers use in the image, for the encoder."""
    timed = image.copy()
    timed.set_type(pyvips.GValue.array_int_type, "delay", frame_delays(image))
    return timed


def decode_frames(source: Path, limits: Limits) -> tuple[pyvips.Image, int, float]:
    """Decode every frame of an animation; return the first one, the number of frames, and the duration in seconds.

    Raises:
        FileCorruptedError: a frame does not decode.
        DecoderLimitError: there are more frames, or more pixels in one or all of them, than `limits` allow.
    """
    from PIL import GifImagePlugin, Image  # noqa: PLC0415 - rarely needed

    Image.MAX_IMAGE_PIXELS = None  # we check our own limits
    GifImagePlugin.LOADING_STRATEGY = GifImagePlugin.LoadingStrategy.RGB_AFTER_DIFFERENT_PALETTE_ONLY  # half the time
    try:
        with Image.open(source) as animation:
            frames = getattr(animation, "n_frames", 1)
            check_shape(animation.width, animation.height, frames, RGBA_BYTES, limits, is_animation=True)
            hidden = int(getattr(animation, "default_image", False))  # APNG: for viewers without animations
            milliseconds, first = 0, b""
            for frame in range(frames):
                animation.seek(frame)
                animation.load()
                if frame >= hidden:
                    first = first or animation.convert("RGBA").tobytes()
                    milliseconds += _shown_delay(animation.info.get("duration") or 0)
            image = pyvips.Image.new_from_memory(first, animation.width, animation.height, 4, "uchar")
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError) as error:
        raise FileCorruptedError(f"a frame does not decode: {error}") from None
    return image.copy(interpretation="srgb"), frames - hidden, milliseconds / MILLISECONDS


def _shown_delay(delay: float) -> int:
    return DEFAULT_MS if delay <= TOO_SHORT_MS else round(delay)
