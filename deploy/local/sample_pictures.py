"""The sample pictures: drawn by libvips from fixed seeds, with a photograph's statistics."""

import math
from pathlib import Path
from typing import Final

import pyvips

SEED: Final = 20_240_607
PHOTO_SIDE: Final = 1024
LARGE_SIDE: Final = 2048
FRAME_DELAYS: Final = (80, 120, 200, 80, 120, 400)
"""Milliseconds each frame of the animation is shown."""


def photo(side: int, seed: int = SEED, grain: float = 1.0) -> pyvips.Image:
    """Draw something with a photograph's statistics: smooth light, soft shapes at every scale, fine grain. RGB.

    `grain` is the standard deviation of the noise, of 255.
    """
    across = pyvips.Image.xyz(side, side) / side
    light = 150 + 50 * across[0] - 70 * across[1]
    clouds = sum(
        pyvips.Image.perlin(side, side, cell_size=side // cells, seed=seed + cells) * strength
        for cells, strength in ((2, 45), (4, 30), (8, 18), (16, 12), (32, 8))
    )
    hills = sum(
        ((across[1] > 0.55 + 0.1 * at + across[0] * slope) / 255) * depth
        for at, (slope, depth) in enumerate(((0.1, -40), (-0.15, -30), (0.05, -25)))
    )
    base = light + clouds + hills
    tints = ((0.7, 0.5, 6), (0.85, 0.05, 10), (1.1, -0.5, 30))  # a blue sky that warms towards the ground
    bands = [
        base * (gain + drift * across[1])
        + offset
        + pyvips.Image.gaussnoise(side, side, sigma=grain, mean=0, seed=seed + at)
        for at, (gain, drift, offset) in enumerate(tints)
    ]
    return pyvips.Image.bandjoin(bands[0], bands[1:]).cast("uchar").copy(interpretation="srgb").copy_memory()


def photo_png(_: Path) -> bytes:
    """A PNG of 1 to 2 MB, as most image models answer."""
    return bytes(photo(PHOTO_SIDE).pngsave_buffer(compression=6))


def large_png(_: Path) -> bytes:
    """A PNG of four megapixels."""
    return bytes(photo(LARGE_SIDE, SEED + 100).pngsave_buffer(compression=3))


def photo_jpg(_: Path) -> bytes:
    """A grainy JPEG, of better quality than is stored."""
    return bytes(photo(PHOTO_SIDE, SEED + 200, grain=6).jpegsave_buffer(Q=95))


def photo_webp(_: Path) -> bytes:
    """A WebP without transparency."""
    return bytes(photo(PHOTO_SIDE, SEED + 300, grain=5).webpsave_buffer(Q=90, effort=1))


def cut_out_png(_: Path) -> bytes:
    """A disc that fades into nothing: real transparency, hard and soft."""
    side = 512
    centred = pyvips.Image.xyz(side, side) - side / 2
    distance = (centred[0] ** 2 + centred[1] ** 2) ** 0.5
    alpha = ((side / 2 - distance) * 4).cast("uchar")
    return bytes(photo(side, SEED + 400).bandjoin(alpha).pngsave_buffer(compression=6))


def animation_gif(_: Path) -> bytes:
    """A disc that wanders over a picture, with uneven delays, for ever."""
    side = 256
    ground = photo(side, SEED + 500)
    frames = [
        ground.draw_circle([255, 200, 0], 40 + 30 * at, 128 + round(60 * math.sin(at)), 24, fill=True)
        for at in range(len(FRAME_DELAYS))
    ]
    strip = pyvips.Image.arrayjoin(frames, across=1).copy()
    strip.set_type(pyvips.GValue.gint_type, "page-height", side)
    strip.set_type(pyvips.GValue.gint_type, "loop", 0)
    strip.set_type(pyvips.GValue.array_int_type, "delay", list(FRAME_DELAYS))
    return bytes(strip.gifsave_buffer(effort=3))


def turned_jpg(_: Path) -> bytes:
    """A landscape as a camera held upright stores it: lying on its side, with the EXIF tag that turns it."""
    lying = photo(PHOTO_SIDE, SEED + 600, grain=4).crop(0, 200, PHOTO_SIDE, 640).copy()
    lying.set_type(pyvips.GValue.gint_type, "orientation", 6)
    return bytes(lying.jpegsave_buffer(Q=95))
