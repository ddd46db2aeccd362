"""The sample pictures: drawn by libvips from fixed seeds, with noise and gradients like those of a photograph."""

import math
from pathlib import Path
from typing import Final

import pyvips

SEED: Final = 20_240_607
PHOTO_SIDE: Final = 1024
LARGE_SIDE: Final = 2048
FRAME_DELAYS: Final = (80, 120, 200, 80, 120, 400)
"""The duration of each frame of the animation in milliseconds."""


def photo(side: int, seed: int = SEED, grain: float = 1.0) -> pyvips.Image:
    """Draw an sRGB picture that compresses like a photograph: gradients, soft shapes of all sizes, and noise.

    `grain` is the standard deviation of the noise, on a scale of 0 to 255.
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
    tile = pyvips.Image.gaussnoise(side // 2, side // 2, sigma=grain, mean=0, seed=seed).copy_memory()
    noise = tile.replicate(2, 2)  # drawing it once takes a tenth of the time
    bands = [
        base * (gain + drift * across[1]) + offset + noise.wrap(x=at * 100, y=at * 70)
        for at, (gain, drift, offset) in enumerate(tints)
    ]
    return pyvips.Image.bandjoin(bands[0], bands[1:]).cast("uchar").copy(interpretation="srgb").copy_memory()


def photo_png(_: Path) -> bytes:
    """A PNG of 1 to 2 MB, the usual output of image models."""
    return bytes(photo(PHOTO_SIDE).pngsave_buffer(compression=6))


def large_png(_: Path) -> bytes:
    """A PNG of four megapixels."""
    return bytes(photo(LARGE_SIDE, SEED + 100).pngsave_buffer(compression=3))


def photo_jpg(_: Path) -> bytes:
    """A noisy JPEG with a higher quality than IMAGE_QUALITY."""
    return bytes(photo(PHOTO_SIDE, SEED + 200, grain=6).jpegsave_buffer(Q=95))


def photo_webp(_: Path) -> bytes:
    """A WebP without transparency."""
    return bytes(photo(PHOTO_SIDE, SEED + 300, grain=5).webpsave_buffer(Q=90, effort=1))


def cut_out_png(_: Path) -> bytes:
    """A disc with full, partial and no transparency."""
    side = 512
    centred = pyvips.Image.xyz(side, side) - side / 2
    distance = (centred[0] ** 2 + centred[1] ** 2) ** 0.5
    alpha = ((side / 2 - distance) * 4).cast("uchar")
    return bytes(photo(side, SEED + 400).bandjoin(alpha).pngsave_buffer(compression=6))


def animation_gif(_: Path) -> bytes:
    """An endless animation of a disc that moves over a picture, with frames of different durations."""
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
    """A picture with EXIF orientation 6: the pixels are stored rotated by 90 degrees, as by a camera held upright."""
    rotated = photo(PHOTO_SIDE, SEED + 600, grain=4).crop(0, 200, PHOTO_SIDE, 640).copy()
    rotated.set_type(pyvips.GValue.gint_type, "orientation", 6)
    return bytes(rotated.jpegsave_buffer(Q=95))
