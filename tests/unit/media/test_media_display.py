"""How a video is turned and stretched to be shown."""

from fractions import Fraction
from typing import Any

import pytest

from handlers.media.av.display import orientation, pixel_aspect, shown_size, square_size, swaps_sides


class Frame:
    """A frame with data of a type that PyAV does not know, turned by 90 degrees clockwise."""

    rotation = -90

    @property
    def side_data(self) -> Any:
        raise ValueError("31 is not a valid Type")


def test_a_frame_with_unknown_data_is_turned_by_its_angle() -> None:
    assert orientation(Frame()) == (False, 90)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("degrees", "swaps"), [(0, False), (-90, True), (89, True), (270, True), (180, False), (45, False)]
)
def test_only_quarter_turns_swap_width_and_height(degrees: int, *, swaps: bool) -> None:
    assert swaps_sides(degrees) is swaps


@pytest.mark.parametrize(
    ("aspect", "used", "shown", "square"),
    [
        (Fraction(4, 3), Fraction(4, 3), (960, 576), (720, 432)),
        (Fraction(3, 4), Fraction(3, 4), (720, 768), (540, 576)),
        (Fraction(1), Fraction(1), (720, 576), (720, 576)),
        (None, Fraction(1), (720, 576), (720, 576)),
        (Fraction(0), Fraction(1), (720, 576), (720, 576)),
        (Fraction(1, 10**6), Fraction(1), (720, 576), (720, 576)),
        (Fraction(10**6), Fraction(1), (720, 576), (720, 576)),
    ],
)
def test_pixels_that_are_not_square(
    aspect: Fraction | None, used: Fraction, shown: tuple[int, int], square: tuple[int, int]
) -> None:
    """What is shown is stretched; the poster is shrunk, so that it has no more pixels than the video."""

    class Stream:
        sample_aspect_ratio = aspect

    assert pixel_aspect(Stream()) == used  # type: ignore[arg-type]
    assert (shown_size(720, 576, used), square_size(720, 576, used)) == (shown, square)
