"""SSIM (Wang et al., 2004) of the luma of an encoded picture and its source, over blocks of 8 x 8 pixels side by side.

Of the product of its two terms, the one that compares averages is left out: encoders keep averages. The other one is
`1 - d / (v + w + C)`, with the variances `v` of the source, `w` of the encoded picture, and `d` of their difference.
An encoder drops details, so `w` is about `v - d`; beside sharp edges it adds some, and `w` is about `d - v`. It is not
measured. The blocks lie across the edges of those of JPEG, where errors show. Every second row of them is compared, in
a large picture every fourth. From quality 60, the result is within 0.005 of SSIM over every window of 7 x 7 pixels for
all but very small and very grainy pictures, in a fraction of the time.

Pillow makes the luma and computes: it decodes that of a JPEG without its colours, in a third of the time of libvips,
and each operation of libvips takes 0.1 to 0.2 ms before it reads a pixel.
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
        self._luma = self._whole_blocks(_luma(image))
        # 2v + C, so that v + w + C is this without d, or d + C if that is larger
        means, squares = self._luma.reduce(self._block), _squared(self._luma).reduce(self._block)
        self._scale = lambda_eval(lambda of: (of["s"] - of["m"] * of["m"]) * 2.0 + C2, s=squares, m=means)

    def similarity(self, encoded: bytes) -> float:
        """Return the SSIM of an encoded version, at most 1. Less than a block at the edges is left out."""
        luma = self._whole_blocks(self._luma_of_file(encoded))
        difference = lambda_eval(lambda of: of["a"] - of["b"], a=self._luma, b=luma)
        lost = _squared(difference).reduce(self._block)
        if not encoded.startswith(JPEG):  # the others store luma in a narrower range, and so change averages a little
            offset = difference.reduce(self._block)
            lost = lambda_eval(lambda of: of["lost"] - of["by"] * of["by"], lost=lost, by=offset)
        share = lambda_eval(
            lambda of: of["lost"] / of["max"](of["scale"] - of["lost"], of["lost"] + C2), lost=lost, scale=self._scale
        )
        return 1 - float(share.reduce(share.size).getpixel((0, 0)))

    def _whole_blocks(self, luma: Image.Image) -> Image.Image:
        """Return the whole blocks as floating point. They begin in the middle of those of the encoder."""
        across, down = self._block
        left = ACROSS if luma.width >= 2 * BLOCK else 0
        right = left + (luma.width - left) // across * across
        return luma.crop((left, 0, right, luma.height // down * down)).convert("F")

    def _luma_of_file(self, encoded: bytes) -> Image.Image:
        if self._has_alpha:
            return _luma(pyvips.Image.new_from_buffer(encoded, ""))
        with Image.open(io.BytesIO(encoded)) as picture:
            picture.draft("L", None)
            return _compared_rows("L", picture.width, picture.height, picture.convert("L").tobytes())


def _luma(image: pyvips.Image) -> Image.Image:
    """Return the luma of the compared rows of an image (ITU-R BT.601)."""
    image = image.flatten(background=[BEHIND] * (image.bands - 1)) if image.hasalpha() else image
    mode = "L" if image.bands < RGB_BANDS else "RGB"
    return _compared_rows(mode, image.width, image.height, image.write_to_memory()).convert("L")


def _compared_rows(mode: str, width: int, height: int, pixels: Any) -> Image.Image:  # noqa: ANN401 - bytes or a buffer
    """Return the rows that are compared of a picture."""
    if height >= 2 * BLOCK:
        row = width * len(mode)
        step = (4 if height >= LARGE else 2) * BLOCK * row
        starts = range(ACROSS * row, (height - BLOCK + 1) * row, step)
        pixels, height = b"".join(pixels[at : at + BLOCK * row] for at in starts), BLOCK * len(starts)
    return Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)


def _squared(image: Image.Image) -> Image.Image:
    squares: Image.Image = lambda_eval(lambda of: of["image"] * of["image"], image=image)
    return squares
