"""Limits on an image that are checked from its header, before decoding. Runs in a codec process.

If a file needs more memory or time than its header shows, the limits of the process end its decoding
(`handlers/codec/sandbox/rlimits.py`).
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyvips

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Limits
from handlers.media.formats import mapped, riff

MAX_ANIMATION_FACTOR: Final = 20
"""MAX_IMAGE_PIXELS is for one image in memory. The frames of an animation are decoded one after the other, and may
together have this many times as many pixels: by default 90 seconds of 1280x720 at 24 frames a second."""

MAX_ENCODED_PIXELS: Final = 40_000_000
"""The most pixels, in all frames together, of an animation that is encoded: four seconds of 848x480 at 24 frames a
second. Encoding them takes about 5 s on one core, decoding 0.6 s. A larger animation is kept."""


def check_shape(
    width: int, height: int, pages: int, pixel_bytes: int, limits: Limits, *, is_animation: bool = False
) -> None:
    """Refuse an image that is too large to decode. `width` and `height` are of one page, in pixels.

    `pixel_bytes` is the size in bytes of a decoded pixel.

    Raises:
        DecoderLimitError: there are more pages than `max_frames`; all pages together, or one frame of an animation,
            exceed `max_pixels` or `max_memory`; or all frames of an animation have more pixels than
            MAX_ANIMATION_FACTOR times `max_pixels`.
    """
    if pages > limits.max_frames:
        raise DecoderLimitError(
            f"the image has {pages:,} frames or pages, or more, and MAX_IMAGE_FRAMES allows {limits.max_frames:,}"
        )
    pixels = width * height
    if is_animation:
        _check_animation(pixels * pages, limits)
    else:
        pixels *= pages
    _check_pixels(pixels, f"{width}x{height}, {pages:,} frames", limits)
    if pixels * pixel_bytes > limits.max_memory:
        raise DecoderLimitError(
            f"the image takes {pixels * pixel_bytes >> 20:,} MiB decoded ({pixel_bytes} bytes a pixel), "
            f"and CODEC_MEMORY_MB allows {limits.max_memory >> 20:,}"
        )


def check_pages(limits: Limits, pixels: int, pages: Iterator[pyvips.Image]) -> Iterator[pyvips.Image]:
    """Yield the pages after the first one, which has `pixels`, and add up the pixels of all pages.

    Raises:
        DecoderLimitError: with the next page, the sum exceeds `limits.max_pixels`.
    """
    for page in pages:
        pixels += page.width * page.height
        _check_pixels(pixels, "in several pages", limits)
        yield page


def check_webp(source: Path, limits: Limits) -> None:
    """Check the number of frames and the size of the canvas of a WebP file from its chunks, before libwebp opens it.

    To open a file, libwebp takes time that grows with the square of the number of frames, and libvips refuses a large
    canvas with an error of its own. Damage is ignored here; the check of the structure reports it.

    Raises:
        DecoderLimitError: the file has more frames, or frames of more pixels, than `check_shape` allows.
    """
    frames, width, height = 0, 1, 1
    with mapped(source) as content, suppress(FileCorruptedError):
        for chunk in riff.chunks(content, riff.FILE_HEADER_BYTES, len(content)):
            if chunk.kind == b"VP8X":
                width, height = (
                    int.from_bytes(content[chunk.body + at : chunk.body + at + 3], "little") + 1 for at in (4, 7)
                )
            frames += chunk.kind == b"ANMF"
            if frames > limits.max_frames:
                break
    check_shape(width, height, max(frames, 1), 1, limits, is_animation=frames > 1)


def _check_animation(pixels: int, limits: Limits) -> None:
    maximum = MAX_ANIMATION_FACTOR * limits.max_pixels
    if pixels > maximum:
        raise DecoderLimitError(
            f"the frames of the animation have {pixels:,} pixels together, and {MAX_ANIMATION_FACTOR} times "
            f"MAX_IMAGE_PIXELS allows {maximum:,}"
        )


def _check_pixels(pixels: int, detail: str, limits: Limits) -> None:
    if pixels > limits.max_pixels:
        raise DecoderLimitError(
            f"the image has {pixels:,} pixels ({detail}), and MAX_IMAGE_PIXELS allows {limits.max_pixels:,}"
        )
