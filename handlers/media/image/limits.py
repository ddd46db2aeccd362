"""Limits on an image that are checked from its header, before decoding. Runs in a codec process.

A file that needs more memory or time than its header shows is stopped by the limits of the process
(handlers/codec/sandbox/rlimits.py).
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyvips

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Limits
from handlers.media.formats import mapped, riff


def check_shape(width: int, height: int, pages: int, pixel_bytes: int, limits: Limits) -> None:
    """Refuse an image that is too large to decode; `pixel_bytes` are the bytes of a decoded pixel.

    Raises:
        DecoderLimitError: it has too many frames or pages, or too many pixels or bytes in all of them.
    """
    if pages > limits.max_frames:
        raise DecoderLimitError(
            f"the image has {pages:,} frames or pages, or more, and MAX_IMAGE_FRAMES allows {limits.max_frames:,}"
        )
    pixels = width * height * pages
    _check_pixels(pixels, f"{width}x{height}, {pages:,} frames", limits)
    if pixels * pixel_bytes > limits.max_memory:
        raise DecoderLimitError(
            f"the image takes {pixels * pixel_bytes >> 20:,} MiB decoded ({pixel_bytes} bytes a pixel), "
            f"and CODEC_MEMORY_MB allows {limits.max_memory >> 20:,}"
        )


def check_pages(limits: Limits, pixels: int, pages: Iterator[pyvips.Image]) -> Iterator[pyvips.Image]:
    """Yield the pages while the sum of their pixels is allowed; it begins with `pixels`.

    Raises:
        DecoderLimitError: a page exceeds it.
    """
    for page in pages:
        pixels += page.width * page.height
        _check_pixels(pixels, "in several pages", limits)
        yield page


def check_webp(source: Path, limits: Limits) -> None:
    """Check the frames and the canvas of a WebP file by its chunks, before libwebp opens it.

    libwebp needs time in the square of the number of frames to open a file, and libvips refuses a large canvas with an
    error of its own. The structure check reports damage, not this.

    Raises:
        DecoderLimitError: it has more frames, or a canvas of more pixels, than `limits` allow.
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
    check_shape(width, height, max(frames, 1), 1, limits)


def _check_pixels(pixels: int, how: str, limits: Limits) -> None:
    if pixels > limits.max_pixels:
        raise DecoderLimitError(
            f"the image has {pixels:,} pixels ({how}), and MAX_IMAGE_PIXELS allows {limits.max_pixels:,}"
        )
