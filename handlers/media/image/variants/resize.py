"""Smaller versions of one picture. Each is made from a larger one of the same shape, if that is twice as large."""

from typing import Final

import pyvips

from handlers.media.image import animation

CENTRE, ATTENTION = "centre", "attention"
LARGEST_FACTOR: Final = 8
"""Up to this factor the filter reads every pixel, which is faster than averaging blocks first, and sharper."""
CHAIN_FACTOR: Final = 2


class Pictures:
    """The picture, 8 bits in sRGB or grey, one frame below the other, and the versions of its first frame made so far.

    Alpha is multiplied in before pixels are averaged, so that the colour of transparent pixels does not show.
    """

    def __init__(self, image: pyvips.Image) -> None:
        self._image = image
        self._width, self._height = int(image.width), int(image.get_page_height())
        self.frames = animation.frame_count(image)
        self._made = [_without_frames(self._frame(0))]

    @property
    def smallest(self) -> pyvips.Image:
        """The smallest version of the first frame, not cropped."""
        return self._made[-1]

    def first_frame(self, size: tuple[int, int]) -> pyvips.Image:
        """Return the first frame in this size, which must not be larger; what is least interesting is cut off."""
        width, height = self._covering(size)
        source = next(
            made for made in reversed(self._made) if made is self._made[0] or _is_multiple(made, width, height)
        )
        picture = _resized(source, width, height)
        if picture is not source and max(picture.width, picture.height) > 1:
            picture = picture.copy_memory()
            self._made = sorted([*self._made, picture], key=lambda made: made.width, reverse=True)
        return _cropped(picture, size, ATTENTION)

    def all_frames(self, size: tuple[int, int]) -> pyvips.Image:
        """Return all frames in this size, with their timing; the middle of each stays if they are cropped."""
        width, height = self._covering(size)
        frames = [_cropped(_resized(self._frame(at), width, height), size, CENTRE) for at in range(self.frames)]
        joined = pyvips.Image.arrayjoin(frames, across=1).copy()
        joined.set_type(pyvips.GValue.gint_type, "page-height", size[1])
        return joined

    def _frame(self, at: int) -> pyvips.Image:
        return self._image.crop(0, at * self._height, self._width, self._height) if self.frames > 1 else self._image

    def _covering(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the smallest size of the whole picture that covers a size."""
        width, height = size
        if width * self._height >= height * self._width:
            return width, max(height, round(width * self._height / self._width))
        return max(width, round(height * self._width / self._height)), height


def _is_multiple(made: pyvips.Image, width: int, height: int) -> bool:
    return bool(made.width >= CHAIN_FACTOR * width and made.width * height == made.height * width)


def _resized(image: pyvips.Image, width: int, height: int) -> pyvips.Image:
    if (image.width, image.height) == (width, height):
        return image
    has_alpha = bool(image.hasalpha())
    source = image.premultiply() if has_alpha else image
    factor = max(image.width / width, image.height / height)
    options = {"gap": 0.0} if factor <= LARGEST_FACTOR else {}
    resized = source.resize(width / image.width, vscale=height / image.height, **options)
    return resized.unpremultiply().cast("uchar") if has_alpha else resized


def _cropped(picture: pyvips.Image, size: tuple[int, int], interesting: str) -> pyvips.Image:
    if (picture.width, picture.height) == size:
        return picture
    return picture.smartcrop(*size, interesting=interesting)


def _without_frames(picture: pyvips.Image) -> pyvips.Image:
    """Return a frame without what says that it is one of several."""
    if not picture.get_typeof("page-height"):
        return picture
    still = picture.copy()
    for name in ("page-height", "n-pages", "delay", "loop"):
        still.remove(name)
    return still
