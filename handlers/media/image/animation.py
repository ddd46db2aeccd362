"""Animations: the number of frames and how long each is shown, and the decoding of animations that are kept.

libvips composes the frames of GIF and WebP, so disposal methods are not handled here. APNG and AVIF sequences, which
libvips does not read, and animations that are not worth encoding, or would take too long, are kept. Pillow counts and
decodes the frames of these, one after the other.
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
"""Browsers show a frame with this delay, or a shorter one, for DEFAULT_MS instead."""
DEFAULT_MS: Final = 100
RGBA_BYTES: Final = 4
SEQUENCE: Final = b"avis"
"""The brand of AVIF sequences."""


def is_apng_or_avif_sequence(source: Path, content_type: str) -> bool:
    """Whether the file is an APNG or an AVIF sequence. libvips reads at most one frame of these."""
    if content_type == "image/png":
        return b"acTL" in read_png_tags(source)
    return content_type == "image/avif" and SEQUENCE in brands(source)


def frame_count(image: pyvips.Image) -> int:
    """Return the number of frames of an image that has all of its frames one below the other; 1 for a still image."""
    return int(image.height // image.get_page_height())


def frame_delays(image: pyvips.Image) -> list[int]:
    """Return for how many milliseconds browsers show each frame."""
    delays = list(image.get("delay")) if image.get_typeof("delay") else []
    return [_shown_delay(delay) for delay in (delays + [0] * frame_count(image))[: frame_count(image)]]


def duration_seconds(image: pyvips.Image) -> float | None:
    """Return the duration of one loop in seconds; None for a still image."""
    return sum(frame_delays(image)) / MILLISECONDS if frame_count(image) > 1 else None


def stored_timing(target: Path) -> dict[str, float | None]:
    """Return `frames` and `duration`, in seconds, of a WebP animation that we have encoded.

    They may differ from those of the source, because the encoder merges equal frames.
    """
    header = pyvips.Image.webpload(str(target))
    frames = int(header.get("n-pages"))
    return {"frames": frames, "duration": sum(header.get("delay")) / MILLISECONDS if frames > 1 else None}


def with_timing(image: pyvips.Image) -> pyvips.Image:
    """Return the image with the delays that browsers use, which the encoder then writes."""
    timed = image.copy()
    timed.set_type(pyvips.GValue.array_int_type, "delay", frame_delays(image))
    return timed


def decode_frames(source: Path, limits: Limits) -> tuple[pyvips.Image, int, float]:
    """Decode every frame of an animation with Pillow.

    Return the first frame as 8-bit RGBA, the number of frames, and the duration of one loop in seconds. The picture of
    an APNG for viewers without animations is decoded, but not counted.

    Raises:
        FileCorruptedError: a frame does not decode.
        DecoderLimitError: the number of frames, or the pixels of one frame or of all, exceed `limits` (`check_shape`).
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
