"""What a file may claim, checked from its header before anything of it is decoded. Runs in a codec process.

The time and memory a process may take (handlers/codec/rlimits.py) end whatever claims little and takes much.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyvips

from handlers.errors import DecoderLimitError
from handlers.media import Limits

RIFF_HEADER: Final = 12
CHUNK_HEADER: Final = 8
MAX_STREAMS: Final = 32
"""Most streams of a film or sound; none that is meant to be played has more."""


def check_shape(width: int, height: int, pages: int, pixel_bytes: int, limits: Limits) -> None:
    """Refuse what would be too large to decode; `pixel_bytes` is what a decoded pixel takes.

    Raises:
        DecoderLimitError: too many frames or pages, pixels, or bytes, all frames together.
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


def within(limits: Limits, pixels: int, pages: Iterator[pyvips.Image]) -> Iterator[pyvips.Image]:
    """Give the pages out one by one, as long as they have no more pixels together than allowed; `pixels` came before.

    Raises:
        DecoderLimitError: one of them goes beyond.
    """
    for page in pages:
        pixels += page.width * page.height
        _check_pixels(pixels, "in several pages", limits)
        yield page


def check_webp(source: Path, limits: Limits) -> None:
    """Refuse a WebP by its chunks: to open one libwebp takes the square of its frames, and libvips no large canvas.

    The layout: https://developers.google.com/speed/webp/docs/riff_container

    Raises:
        DecoderLimitError: it has more frames, or a canvas of more pixels, than `limits` allow.
    """
    with source.open("rb") as file:
        file.seek(RIFF_HEADER)
        frames, width, height = 0, 1, 1
        while frames <= limits.max_frames and len(head := file.read(CHUNK_HEADER)) == CHUNK_HEADER:
            length = int.from_bytes(head[4:], "little")
            if head.startswith(b"VP8X"):
                canvas = file.read(10)
                width, height = (int.from_bytes(canvas[at : at + 3], "little") + 1 for at in (4, 7))
                length -= len(canvas)
            frames += head.startswith(b"ANMF")
            file.seek(length + length % 2, os.SEEK_CUR)
    check_shape(width, height, max(frames, 1), 1, limits)


def _check_pixels(pixels: int, how: str, limits: Limits) -> None:
    if pixels > limits.max_pixels:
        raise DecoderLimitError(
            f"the image has {pixels:,} pixels ({how}), and MAX_IMAGE_PIXELS allows {limits.max_pixels:,}"
        )
