"""Measures the difference between a stored image and its reference."""

from dataclasses import dataclass

import numpy as np
from skimage import color, metrics

BLOCK = 16


@dataclass(frozen=True)
class Distance:
    """The largest difference of all frames, on white and on black.

    `ssim`: structural similarity. `delta_e`: CIEDE2000, 95th percentile of the pixels. `shift`: CIEDE2000 of the
    averages of 16x16 blocks, 95th percentile; compression noise averages out there, a wrong colour does not. `alpha`:
    the largest difference of alpha, of 255.
    """

    ssim: float
    delta_e: float
    shift: float
    alpha: int


def distance(reference: list[np.ndarray], stored: list[np.ndarray]) -> Distance:
    """Compare frames: RGBA, 8 bits."""
    distances = [
        _frame_distance(reference_frame, stored_frame)
        for reference_frame, stored_frame in zip(reference, stored, strict=True)
    ]
    return Distance(
        min(each.ssim for each in distances),
        max(each.delta_e for each in distances),
        max(each.shift for each in distances),
        max(each.alpha for each in distances),
    )


def blurred_delta_e(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean CIEDE2000 of the averages of 8x8 blocks of two pictures: RGB, 0 to 1."""
    return float(delta_e(_blocks(a, 8), _blocks(b, 8)).mean())


def _frame_distance(reference_frame: np.ndarray, stored_frame: np.ndarray) -> Distance:
    assert reference_frame.shape == stored_frame.shape, f"{reference_frame.shape} has become {stored_frame.shape}"
    backgrounds = [255] if reference_frame[..., 3].min() == 255 == stored_frame[..., 3].min() else [255, 0]
    pairs = [
        (composite(reference_frame, background), composite(stored_frame, background)) for background in backgrounds
    ]
    return Distance(
        min(metrics.structural_similarity(a, b, channel_axis=2, data_range=1) for a, b in pairs),
        max(float(np.percentile(delta_e(a, b), 95)) for a, b in pairs),
        max(float(np.percentile(delta_e(_blocks(a), _blocks(b)), 95)) for a, b in pairs),
        int(np.abs(reference_frame[..., 3].astype(int) - stored_frame[..., 3]).max()),
    )


def composite(picture: np.ndarray, background: int) -> np.ndarray:
    alpha = picture[..., 3:] / 255
    return (picture[..., :3] / 255) * alpha + background / 255 * (1 - alpha)


def delta_e(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return color.deltaE_ciede2000(color.rgb2lab(a), color.rgb2lab(b))


def _blocks(picture: np.ndarray, side: int = BLOCK) -> np.ndarray:
    high, wide = picture.shape[0] // side, picture.shape[1] // side
    whole = picture[: high * side, : wide * side]
    return whole.reshape(high, side, wide, side, 3).mean(axis=(1, 3))
