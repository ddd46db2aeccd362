"""SSIM (Wang et al., 2004) of the luma of an encoded picture and its source, over blocks of 8 x 8 pixels side by side.

SSIM is the product of two terms. The term that compares averages is left out: encoders keep averages. The other one is
`1 - d / (v + w + C)`, with the variances `v` of the source, `w` of the encoded picture, and `d` of their difference.
`w` is not measured but estimated. An encoder drops details, so `w` is about `v - d`; beside sharp edges the encoder
adds details, and `w` is about `d - v`.

The blocks lie across the edges of JPEG's blocks, where errors show. Every second row of blocks is compared, in a large
picture every fourth. From quality 60 on, the result is within 0.005 of SSIM over every window of 7 x 7 pixels, except
for very small and very grainy pictures, and takes a fraction of the time.

Pillow computes this instead of libvips: it decodes the luma of a JPEG without the colours, in a third of the time of
libvips, and each operation of libvips takes 0.1 to 0.2 ms before it reads a pixel.
"""

import io
from typing import Any, Final

import pyvips
from PIL import Image
from PIL.ImageMath import lambda_eval

from handlers.media.image.quality import RGB_BANDS

BLOCK: Final = 8
C2: Final = (0.03 * 255) ** 2
JPEG: Final = b"\xff\xd8"
BACKGROUND: Final = 128.0
"""The grey that transparent pictures are put on, because encoders may change the colours of transparent pixels."""
LARGE_ROWS: Final = 512
"""From this number of rows on, a picture is large."""
FIRST_BLOCK: Final = BLOCK // 2
"""Offset of the first block from the left and from the top, in pixels."""


class Original:
    """A picture, 8-bit sRGB or grey, to which encoded versions are compared."""

    def __init__(self, image: pyvips.Image) -> None:
        self._has_alpha = bool(image.hasalpha())
        self._block = min(BLOCK, image.width), min(BLOCK, image.height)
        self._luma = self._whole_blocks(_luma(image))
        # 2v + C: then v + w + C is `scale - d`, or `d + C` if that is larger
        means, squares = self._luma.reduce(self._block), _squared(self._luma).reduce(self._block)
        self._scale = lambda_eval(lambda of: (of["s"] - of["m"] * of["m"]) * 2.0 + C2, s=squares, m=means)

    def similarity(self, encoded: bytes) -> float:
        """Return the SSIM of an encoded version, at most 1. Pixels at the edges that fill no block are left out."""
        luma = self._whole_blocks(self._luma_of_file(encoded))
        difference = lambda_eval(lambda of: of["a"] - of["b"], a=self._luma, b=luma)
        lost = _squared(difference).reduce(self._block)
        if not encoded.startswith(JPEG):  # WebP and AVIF have a narrower range of luma, which changes averages a little
            offset = difference.reduce(self._block)
            lost = lambda_eval(lambda of: of["lost"] - of["by"] * of["by"], lost=lost, by=offset)
        share = lambda_eval(
            lambda of: of["lost"] / of["max"](of["scale"] - of["lost"], of["lost"] + C2), lost=lost, scale=self._scale
        )
        return 1 - float(share.reduce(share.size).getpixel((0, 0)))

    def _whole_blocks(self, luma: Image.Image) -> Image.Image:
        """Return the part of the luma that whole blocks cover, as floating point.

        The first block begins at FIRST_BLOCK, in the middle of the encoder's first block, unless the picture is narrow.
        """
        across, down = self._block
        left = FIRST_BLOCK if luma.width >= 2 * BLOCK else 0
        right = left + (luma.width - left) // across * across
        return luma.crop((left, 0, right, luma.height // down * down)).convert("F")

    def _luma_of_file(self, encoded: bytes) -> Image.Image:
        if self._has_alpha:
            return _luma(pyvips.Image.new_from_buffer(encoded, ""))
        with Image.open(io.BytesIO(encoded)) as picture:
            picture.draft("L", None)
            return _compared_rows("L", picture.width, picture.height, picture.convert("L").tobytes())


def _luma(image: pyvips.Image) -> Image.Image:
    """Return the luma (ITU-R BT.601) of those rows of an image that are compared."""
    image = image.flatten(background=[BACKGROUND] * (image.bands - 1)) if image.hasalpha() else image
    mode = "L" if image.bands < RGB_BANDS else "RGB"
    return _compared_rows(mode, image.width, image.height, image.write_to_memory()).convert("L")


def _compared_rows(mode: str, width: int, height: int, pixels: Any) -> Image.Image:  # noqa: ANN401 - bytes or a buffer
    """Return the rows of a picture that are compared, one below the other."""
    if height >= 2 * BLOCK:
        row = width * len(mode)
        step = (4 if height >= LARGE_ROWS else 2) * BLOCK * row
        starts = range(FIRST_BLOCK * row, (height - BLOCK + 1) * row, step)
        pixels, height = b"".join(pixels[at : at + BLOCK * row] for at in starts), BLOCK * len(starts)
    return Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)


def _squared(image: Image.Image) -> Image.Image:
    squares: Image.Image = lambda_eval(lambda of: of["image"] * of["image"], image=image)
    return squares
