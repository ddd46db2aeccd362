"""Smaller versions of one picture. Each is made from a larger one of the same shape, if that is twice as large."""

from typing import Final, NamedTuple

import pyvips

from handlers.media.image import animation

CENTRE, ATTENTION = "centre", "attention"
LARGEST_FACTOR: Final = 8
"""Up to this factor the filter reads every pixel, which is faster than averaging blocks first, and sharper."""
LEFT_TO_FILTER: Final = 2.0
"""The factor that is left to the filter, at least, where blocks are averaged first."""
CHAIN_FACTOR: Final = 2


class Version(NamedTuple):
    """A still picture and its size: libvips takes 5 microseconds to tell a side."""

    image: pyvips.Image
    width: int
    height: int


class Pictures:
    """The picture, 8 bits in sRGB or grey, one frame below the other, and the versions of its first frame made so far.

    Alpha is multiplied in before pixels are averaged, so that the colour of transparent pixels does not show.
    """

    def __init__(self, image: pyvips.Image) -> None:
        self._image = image
        self._width, self._height = int(image.width), int(image.get_page_height())
        self.frames = animation.frame_count(image)
        self._made = [Version(_without_frames(self._frame(0).image), self._width, self._height)]

    @property
    def smallest(self) -> pyvips.Image:
        """The smallest version of the first frame, not cropped."""
        return self._made[-1].image

    def first_frame(self, size: tuple[int, int]) -> pyvips.Image:
        """Return the first frame in this size, which must not be larger; what is least interesting is cut off."""
        covering = self._covering(size)
        source = next((made for made in reversed(self._made) if _is_multiple(made, *covering)), self._made[0])
        version = _resized(source, *covering)
        if version is not source and max(covering) > 1:
            version = version._replace(image=version.image.copy_memory())
            self._made = sorted([*self._made, version], key=lambda made: made.width, reverse=True)
        return _cropped(version, size, ATTENTION)

    def all_frames(self, size: tuple[int, int]) -> pyvips.Image:
        """Return all frames in this size, with their timing; the middle of each stays if they are cropped."""
        covering = self._covering(size)
        frames = [_cropped(_resized(self._frame(at), *covering), size, CENTRE) for at in range(self.frames)]
        joined = pyvips.Image.arrayjoin(frames, across=1).copy()
        joined.set_type(pyvips.GValue.gint_type, "page-height", size[1])
        return joined

    def _frame(self, at: int) -> Version:
        top = at * self._height
        image = self._image.crop(0, top, self._width, self._height) if self.frames > 1 else self._image
        return Version(image, self._width, self._height)

    def _covering(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the smallest size of the whole picture that covers a size."""
        width, height = size
        if width * self._height >= height * self._width:
            return width, max(height, round(width * self._height / self._width))
        return max(width, round(height * self._width / self._height)), height


def _is_multiple(made: Version, width: int, height: int) -> bool:
    return made.width >= CHAIN_FACTOR * width and made.width * height == made.height * width


def _resized(version: Version, width: int, height: int) -> Version:
    if version[1:] == (width, height):
        return version
    has_alpha = bool(version.image.hasalpha())
    source = version.image.premultiply() if has_alpha else version.image
    across, down = version.width / width, version.height / height
    gap = 0.0 if max(across, down) <= LARGEST_FACTOR else LEFT_TO_FILTER
    image = source.reduce(across, down, gap=gap)
    return Version(image.unpremultiply().cast("uchar") if has_alpha else image, width, height)


def _cropped(version: Version, size: tuple[int, int], interesting: str) -> pyvips.Image:
    return version.image if version[1:] == size else version.image.smartcrop(*size, interesting=interesting)


def _without_frames(picture: pyvips.Image) -> pyvips.Image:
    """Return a frame without what says that it is one of several."""
    if not picture.get_typeof("page-height"):
        return picture
    still = picture.copy()
    for name in ("page-height", "n-pages", "delay", "loop"):
        still.remove(name)
    return still
