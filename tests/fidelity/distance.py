"""How far a stored picture is from its reference: what an eye would see, and what codecs must not do."""

from dataclasses import dataclass

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

BLOCK = 16


@dataclass(frozen=True)
class Distance:
    """The worst over all frames, on white and on black.

    `ssim`: structural similarity. `delta_e`: CIEDE2000, 95th percentile of the pixels. `shift`: CIEDE2000 of the
    averages of 16x16 blocks, their 95th percentile: compression evens out there, a wrong colour does not.
    `alpha`: the largest error of coverage, of 255.
    """

    ssim: float
    delta_e: float
    shift: float
    alpha: int


def distance(reference: list[np.ndarray], stored: list[np.ndarray]) -> Distance:
    """Compare frames, RGBA in bytes."""
    found = [_of_frame(one, other) for one, other in zip(reference, stored, strict=True)]
    return Distance(
        min(each.ssim for each in found),
        max(each.delta_e for each in found),
        max(each.shift for each in found),
        max(each.alpha for each in found),
    )


def _of_frame(one: np.ndarray, other: np.ndarray) -> Distance:
    assert one.shape == other.shape, f"{one.shape} has become {other.shape}"
    grounds = [255] if one[..., 3].min() == 255 == other[..., 3].min() else [255, 0]
    pairs = [(_on(one, ground), _on(other, ground)) for ground in grounds]
    return Distance(
        min(structural_similarity(a, b, channel_axis=2, data_range=1) for a, b in pairs),
        max(float(np.percentile(_delta_e(a, b), 95)) for a, b in pairs),
        max(float(np.percentile(_delta_e(_blocks(a), _blocks(b)), 95)) for a, b in pairs),
        int(np.abs(one[..., 3].astype(int) - other[..., 3]).max()),
    )


def _on(picture: np.ndarray, ground: int) -> np.ndarray:
    alpha = picture[..., 3:] / 255
    return (picture[..., :3] / 255) * alpha + ground / 255 * (1 - alpha)


def _delta_e(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return deltaE_ciede2000(rgb2lab(a), rgb2lab(b))


def _blocks(picture: np.ndarray) -> np.ndarray:
    high, wide = picture.shape[0] // BLOCK, picture.shape[1] // BLOCK
    whole = picture[: high * BLOCK, : wide * BLOCK]
    return whole.reshape(high, BLOCK, wide, BLOCK, 3).mean(axis=(1, 3))
