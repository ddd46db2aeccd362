"""Smaller versions of one picture. Each is made from a version of the same proportions that is at least twice as large.

If there is no such version, it is made from the picture itself.
"""

from typing import Final, NamedTuple

import pyvips

from handlers.media.image import animation

CENTRE, ATTENTION = "centre", "attention"
LARGEST_FACTOR: Final = 8
"""Up to this factor, the resize filter reads all pixels. This is faster, and sharper, than averaging blocks first."""
LEFT_TO_FILTER: Final = 2.0
"""Above LARGEST_FACTOR, blocks are averaged first, so far that the filter still shrinks by at least this factor."""
CHAIN_FACTOR: Final = 2


class Version(NamedTuple):
    """A still picture and its size in pixels. The size is a field because libvips takes 5 microseconds to return it."""

    image: pyvips.Image
    width: int
    height: int


class Resizer:
    """Makes smaller versions of a picture, which is 8-bit sRGB or grey with one frame below the other.

    Versions of the first frame are kept, so that still smaller ones can be made from them. Colours are multiplied by
    alpha before pixels are averaged, so that the colours of transparent pixels have no effect.
    """

    def __init__(self, image: pyvips.Image) -> None:
        self._image = image
        self._width, self._height = int(image.width), int(image.get_page_height())
        self.frames = animation.frame_count(image)
        self._made = [Version(_without_frames(self._frame(0).image), self._width, self._height)]

    @property
    def smallest(self) -> pyvips.Image:
        """The smallest version of the first frame that was made so far, not cropped."""
        return self._made[-1].image

    def first_frame(self, size: tuple[int, int]) -> pyvips.Image:
        """Return the first frame in this size, which must not be larger than the picture.

        If the proportions differ, the frame is cropped to its most interesting part, as libvips sees it.
        """
        covering = self._covering(size)
        source = next((made for made in reversed(self._made) if _is_multiple(made, *covering)), self._made[0])
        version = _resized(source, *covering)
        if version is not source and max(covering) > 1:
            version = version._replace(image=version.image.copy_memory())
            self._made = sorted([*self._made, version], key=lambda made: made.width, reverse=True)
        return _cropped(version, size, ATTENTION)

    def all_frames(self, size: tuple[int, int]) -> pyvips.Image:
        """Return all frames in this size, with their timing. If the proportions differ, the middle stays."""
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
        """Return the smallest size, in the picture's proportions, that covers `size`."""
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
    """Return a frame without the fields that say that it is one of several."""
    if not picture.get_typeof("page-height"):
        return picture
    still = picture.copy()
    for name in ("page-height", "n-pages", "delay", "loop"):
        still.remove(name)
    return still
