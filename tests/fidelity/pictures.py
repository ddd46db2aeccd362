"""The test image of all rows: gradients, saturated patches, noise; asymmetric, so that a rotation is detected."""

import functools
from typing import Final

import numpy as np

WIDTH: Final = 288
HEIGHT: Final = 240
PATCHES: Final = np.array(
    [[220, 40, 40], [40, 190, 60], [40, 60, 210], [230, 210, 40], [200, 60, 190], [50, 200, 210], [15, 15, 15]]
)


@functools.cache
def chart(grain: float = 1.2) -> np.ndarray:
    """Return the test image: RGB, float, 0 to 1. It is drawn once, and cannot be written to."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    u, v = x / WIDTH, y / HEIGHT
    waves = 0.08 * np.sin(9 * u + 4 * v * v) + 0.05 * np.cos(17 * v - 5 * u)
    picture = np.stack([0.25 + 0.6 * u + waves, 0.75 - 0.5 * v + waves, 0.35 + 0.4 * v - 0.2 * u + waves], axis=-1)
    for at, colour in enumerate(PATCHES):
        picture[16:48, 16 + 32 * at : 48 + 32 * at] = colour / 255
    picture[64:224, 16:64] = np.linspace(0.02, 0.98, 160)[:, None, None]
    noise = np.random.default_rng(7).normal(0, grain / 255, (HEIGHT, WIDTH, 1))
    picture = (picture + noise).clip(0.005, 0.995)
    picture.setflags(write=False)
    return picture


def soft_disc() -> np.ndarray:
    """Return an alpha channel, float, 0 to 1: a disc with a soft edge, off the centre."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    distance = np.hypot(x - WIDTH * 0.45, y - HEIGHT * 0.55)
    return ((HEIGHT * 0.45 - distance) / 30).clip(0, 1)


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Convert 0 to 1 to 8 bits."""
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8)


def to_uint16(picture: np.ndarray) -> np.ndarray:
    """Convert 0 to 1 to 16 bits."""
    return np.rint(picture.clip(0, 1) * 65535).astype(np.uint16)


def green_band(picture: np.ndarray) -> np.ndarray:
    """Return the green band, used as a grey image."""
    return picture[..., 1]
