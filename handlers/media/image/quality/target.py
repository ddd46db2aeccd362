"""The lowest quality at which an encoded picture is similar enough to its source (IMAGE_QUALITY=auto, IMAGE_SSIM).

The quality is estimated on a sample, a tenth of the picture's rows, in at most three encodings. The whole picture is
then encoded at this quality and compared. Only if it is not similar enough, it is encoded again at a higher quality.
"""

import math
from collections.abc import Callable
from typing import Final

import pyvips

from handlers.media.image.quality import MIN_QUALITY
from handlers.media.image.quality.ssim import Original

Encode = Callable[[pyvips.Image, int], bytes]
"""A function that encodes a picture at a quality, 1 to 100, and returns the file."""
MAX_QUALITY, FIRST_QUALITY = 95, 84
"""The highest quality that is used, and the one that is tried first."""
MAX_SAMPLES: Final = 3
STRIP: Final = 16
"""Rows of a strip of the sample: as many as a block has with 4:2:0 subsampling."""
EVERY: Final = 10
"""The sample has every tenth strip of the picture."""
STEPS_PER_HALVING: Final = 12.0
"""By how much the quality must typically rise to halve the distance to an SSIM of 1; for the first estimate."""
NEAR: Final = 2
"""An estimate is not tried if a quality at most this much higher was tried and was high enough."""


def encode_similar(image: pyvips.Image, wanted: float, encode: Encode) -> tuple[bytes, int]:
    """Encode a picture, 8-bit sRGB or grey in memory, at about the lowest quality that reaches the SSIM `wanted`.

    Return the file and the quality. The file may be less similar if the quality is MAX_QUALITY, or if the picture was
    encoded a second time: that result is not compared.
    """
    sample = _sample(image)
    tried = _search(sample, wanted, encode)
    quality = _least(tried, wanted)
    content = encode(image, quality)
    reached = Original(image).similarity(content)
    if reached >= wanted or quality == MAX_QUALITY:
        return content, quality
    steps = _steps_per_halving(tried) * math.log2(_distance(reached) / _distance(wanted))
    quality = min(quality + max(math.ceil(steps), 1), MAX_QUALITY)
    return encode(image, quality), quality


def _search(sample: pyvips.Image, wanted: float, encode: Encode) -> dict[int, float]:
    """Encode the sample at several qualities; return the SSIM at each of them."""
    original = Original(sample)
    tried: dict[int, float] = {}
    quality = FIRST_QUALITY
    while len(tried) < MAX_SAMPLES and not _is_known(tried, quality, wanted):
        tried[quality] = original.similarity(encode(sample, quality))
        quality = _least(tried, wanted)
    return tried


def _is_known(tried: dict[int, float], quality: int, wanted: float) -> bool:
    """Whether the quality was tried, or one at most NEAR above it was tried and was high enough."""
    return quality in tried or any(0 < known - quality <= NEAR for known, reached in tried.items() if reached >= wanted)


def _least(tried: dict[int, float], wanted: float) -> int:
    """Estimate the lowest quality that reaches the SSIM `wanted`, from the SSIM at each quality that was tried."""
    lower, upper = _bracket(tried, wanted)
    if lower is None or upper is None:
        known = min(tried) if lower is None else max(tried)
        steps = _steps_per_halving(tried) * math.log2(_distance(tried[known]) / _distance(wanted))
        return min(max(math.ceil(known + steps), MIN_QUALITY), MAX_QUALITY)
    if upper - lower == 1:
        return upper
    return min(max(math.ceil(_between(tried, lower, upper, wanted)), lower + 1), upper)


def _bracket(tried: dict[int, float], wanted: float) -> tuple[int | None, int | None]:
    """Return the lowest quality that was high enough, after the highest one below it that was too low; None if none."""
    upper = min((quality for quality, reached in tried.items() if reached >= wanted), default=None)
    too_low = (quality for quality, reached in tried.items() if reached < wanted and (upper is None or quality < upper))
    return max(too_low, default=None), upper


def _steps_per_halving(tried: dict[int, float]) -> float:
    """Return by how much the quality must rise to halve the distance to an SSIM of 1.

    This is measured between the lowest and the highest quality that was tried, and limited to 5 to 60.
    """
    low, high = min(tried), max(tried)
    halvings = math.log2(_distance(tried[low]) / _distance(tried[high]))
    return min(max((high - low) / halvings, 5.0), 60.0) if halvings > 0 else STEPS_PER_HALVING


def _between(tried: dict[int, float], lower: int, upper: int, wanted: float) -> float:
    """Interpolate the quality: the logarithm of the distance to an SSIM of 1 falls almost linearly with it."""
    first, last, target = (math.log(_distance(reached)) for reached in (tried[lower], tried[upper], wanted))
    share = (first - target) / (first - last) if first > last else 1.0
    return lower + (upper - lower) * share


def _distance(similarity: float) -> float:
    return max(1 - similarity, 1e-6)


def _sample(image: pyvips.Image) -> pyvips.Image:
    """Return every tenth strip of the picture, one below the other; the picture itself if it has few strips."""
    strips = image.height // STRIP
    if strips < 2 * EVERY:
        return image
    row_bytes, pixels = image.width * image.bands, image.write_to_memory()
    size = STRIP * row_bytes
    starts = range(EVERY // 2 * size, strips * size, EVERY * size)
    sample = b"".join(pixels[at : at + size] for at in starts)
    strip = pyvips.Image.new_from_memory(sample, image.width, STRIP * len(starts), image.bands, "uchar")
    return strip.copy(interpretation=image.interpretation)
