"""The lowest quality at which an encoded picture is similar enough to its source (IMAGE_QUALITY=auto, IMAGE_SSIM).

It is searched on a sample, a tenth of the picture's rows, in at most three encodings. The picture is then
encoded once and compared at full size; only if that falls short, it is encoded again at a higher quality.
"""

import math
from collections.abc import Callable
from typing import Final

import pyvips

from handlers.media.image.quality import LEAST
from handlers.media.image.quality.ssim import Original

Encode = Callable[[pyvips.Image, int], bytes]
"""Encodes a picture at a quality."""
MOST, FIRST = 95, 84
MAX_SAMPLES: Final = 3
STRIP: Final = 16
"""Rows of a strip of the sample: those of the blocks of 4:2:0."""
EVERY: Final = 10
"""The sample has one of so many strips."""
HALVED_BY: Final = 12.0
"""The steps of quality that typically halve the distance to equality, for the first guess."""
NEAR: Final = 2
"""An estimate that is so near to a quality that was high enough is not tried itself."""


def encode_similar(image: pyvips.Image, wanted: float, encode: Encode) -> tuple[bytes, int]:
    """Return the picture, 8-bit sRGB or grey in memory, encoded at the lowest quality with this SSIM; and the quality.

    At MOST, the result may be less similar.
    """
    sample = _sample(image)
    tried = _search(sample, wanted, encode)
    quality = _least(tried, wanted)
    content = encode(image, quality)
    reached = Original(image).similarity(content)
    if reached >= wanted or quality == MOST:
        return content, quality
    steps = _halved_by(tried) * math.log2(_distance(reached) / _distance(wanted))
    quality = min(quality + max(math.ceil(steps), 1), MOST)
    return encode(image, quality), quality


def _search(sample: pyvips.Image, wanted: float, encode: Encode) -> dict[int, float]:
    """Return the similarity of the sample at each quality that was tried."""
    original = Original(sample)
    tried: dict[int, float] = {}
    quality = FIRST
    while len(tried) < MAX_SAMPLES and not _is_known(tried, quality, wanted):
        tried[quality] = original.similarity(encode(sample, quality))
        quality = _least(tried, wanted)
    return tried


def _is_known(tried: dict[int, float], quality: int, wanted: float) -> bool:
    """Whether the quality was tried, or one near above it that was high enough."""
    return quality in tried or any(0 < known - quality <= NEAR for known, reached in tried.items() if reached >= wanted)


def _least(tried: dict[int, float], wanted: float) -> int:
    """Return the lowest quality that is expected to reach the similarity, by what was tried."""
    lower, upper = _bracket(tried, wanted)
    if lower is None or upper is None:
        known = min(tried) if lower is None else max(tried)
        steps = _halved_by(tried) * math.log2(_distance(tried[known]) / _distance(wanted))
        return min(max(math.ceil(known + steps), LEAST), MOST)
    if upper - lower == 1:
        return upper
    return min(max(math.ceil(_between(tried, lower, upper, wanted)), lower + 1), upper)


def _bracket(tried: dict[int, float], wanted: float) -> tuple[int | None, int | None]:
    """Return the highest quality that was too low, and the lowest one that was high enough."""
    upper = min((quality for quality, reached in tried.items() if reached >= wanted), default=None)
    too_low = (quality for quality, reached in tried.items() if reached < wanted and (upper is None or quality < upper))
    return max(too_low, default=None), upper


def _halved_by(tried: dict[int, float]) -> float:
    """Return the steps of quality that halve the distance to equality, by the lowest and the highest one tried."""
    low, high = min(tried), max(tried)
    halvings = math.log2(_distance(tried[low]) / _distance(tried[high]))
    return min(max((high - low) / halvings, 5.0), 60.0) if halvings > 0 else HALVED_BY


def _between(tried: dict[int, float], lower: int, upper: int, wanted: float) -> float:
    """Interpolate: the logarithm of the distance to equality falls about evenly with the quality."""
    first, last, target = (math.log(_distance(reached)) for reached in (tried[lower], tried[upper], wanted))
    share = (first - target) / (first - last) if first > last else 1.0
    return lower + (upper - lower) * share


def _distance(similarity: float) -> float:
    return max(1 - similarity, 1e-6)


def _sample(image: pyvips.Image) -> pyvips.Image:
    """Return strips from all over the picture, one below the other; the whole picture if it is not much larger."""
    strips = image.height // STRIP
    if strips < 2 * EVERY:
        return image
    row_bytes, pixels = image.width * image.bands, image.write_to_memory()
    size = STRIP * row_bytes
    starts = range(EVERY // 2 * size, strips * size, EVERY * size)
    sample = b"".join(pixels[at : at + size] for at in starts)
    strip = pyvips.Image.new_from_memory(sample, image.width, STRIP * len(starts), image.bands, "uchar")
    return strip.copy(interpretation=image.interpretation)
