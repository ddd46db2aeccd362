"""SSIM (Wang et al., 2004) of the luma of an encoded picture and its source, over blocks of 8 x 8 pixels side by side.

Of the product of its two terms, the one that compares averages is left out: encoders keep averages. The other one is
`1 - d / (v + w + C)`, with the variances `v` of the source, `w` of the encoded picture, and `d` of their difference.
An encoder drops details, so `w` is about `v - d`, and is not measured. The blocks lie across the edges of those of
JPEG, where errors show. Every second row of them is compared, in a large picture every fourth. The result is within
0.004 of SSIM over every window of 7 x 7 pixels for all but very small pictures, in a fraction of the time.

Pillow makes the luma: it decodes that of a JPEG without its colours, in a third of the time of libvips.
"""

import io
from typing import Any, Final

import pyvips
from PIL import Image

from handlers.media.image.quality import RGB_BANDS

BLOCK: Final = 8
C2: Final = (0.03 * 255) ** 2
JPEG: Final = b"\xff\xd8"
BEHIND: Final = 128.0
"""What is behind transparent pixels, whose colours encoders may change."""
LARGE: Final = 512
"""Pictures of so many rows and more are large."""
ACROSS: Final = BLOCK // 2
"""Where the blocks begin."""


class Original:
    """A picture, 8 bits in sRGB or grey, to which encoded versions are compared."""

    def __init__(self, image: pyvips.Image) -> None:
        self._has_alpha = bool(image.hasalpha())
        self._block = min(BLOCK, image.width), min(BLOCK, image.height)
        self._luma = self._cropped(_luma(image)).cast("float").copy_memory()
        means = self._luma.shrink(*self._block)
        variances = (self._luma * self._luma).shrink(*self._block) - means * means
        self._scale = (2 * variances + C2).copy_memory()

    def similarity(self, encoded: bytes) -> float:
        """Return the SSIM of an encoded version, at most 1. Less than a block at the edges is left out."""
        difference = self._luma - self._cropped(self._luma_of_file(encoded))
        lost = (difference * difference).shrink(*self._block)
        if not encoded.startswith(JPEG):  # the others store luma in a narrower range, and so change averages a little
            offset = difference.shrink(*self._block)
            lost -= offset * offset
        return 1 - float((lost / (self._scale - lost)).avg())

    def _cropped(self, luma: pyvips.Image) -> pyvips.Image:
        """Return the whole blocks, which begin in the middle of those of the encoder."""
        across, down = self._block
        left = ACROSS if luma.width >= 2 * BLOCK else 0
        return luma.crop(left, 0, (luma.width - left) // across * across, luma.height // down * down)

    def _luma_of_file(self, encoded: bytes) -> pyvips.Image:
        if self._has_alpha:
            return _luma(pyvips.Image.new_from_buffer(encoded, ""))
        with Image.open(io.BytesIO(encoded)) as picture:
            picture.draft("L", None)
            pixels, height = _compared_rows(picture.convert("L").tobytes(), picture.width, picture.height)
            return pyvips.Image.new_from_memory(pixels, picture.width, height, 1, "uchar")


def _luma(image: pyvips.Image) -> pyvips.Image:
    """Return the luma of an image (ITU-R BT.601)."""
    image = image.flatten(background=[BEHIND] * (image.bands - 1)) if image.hasalpha() else image
    mode, bands = ("L", 1) if image.bands < RGB_BANDS else ("RGB", RGB_BANDS)
    pixels, height = _compared_rows(image.write_to_memory(), image.width * bands, image.height)
    picture = Image.frombuffer(mode, (image.width, height), pixels, "raw", mode, 0, 1)
    return pyvips.Image.new_from_memory(picture.convert("L").tobytes(), image.width, height, 1, "uchar")


def _compared_rows(pixels: Any, row_bytes: int, height: int) -> tuple[Any, int]:  # noqa: ANN401 - bytes or a buffer
    """Return the rows of pixels that are compared, and their number."""
    if height < 2 * BLOCK:
        return pixels, height
    rows = BLOCK * row_bytes
    starts = range(ACROSS * row_bytes, height * row_bytes - rows + 1, (4 if height >= LARGE else 2) * rows)
    return b"".join(pixels[at : at + rows] for at in starts), BLOCK * len(starts)
