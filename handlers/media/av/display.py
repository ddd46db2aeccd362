"""How a video is shown: the shape of its pixels and its orientation, as browsers apply them."""

import math
import struct
from fractions import Fraction
from typing import Final, NamedTuple

import av
from av.sidedata.sidedata import SideData
from av.video.stream import VideoStream

QUARTER_TURN: Final = 90
"""Degrees."""
ROUNDING: Final = 1
"""Maximum difference in degrees at which an angle is taken for a multiple of a quarter turn."""
MAX_ASPECT: Final = 20
"""Maximum ratio of the sides of a pixel. A larger one is a damaged or invented number."""
MATRIX: Final = struct.Struct("=9i")
"""The display matrix of a frame, in the byte order of the machine (FFmpeg, libavutil/display.h)."""


class Orientation(NamedTuple):
    """How a frame is shown: mirrored left to right first, if so, and then turned clockwise by so many degrees."""

    is_mirrored: bool = False
    turn: int = 0


def orientation(frame: av.VideoFrame) -> Orientation:
    """Return the orientation of a frame. Other angles than quarter turns are not applied."""
    try:
        found = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # the frame has data of a type that PyAV does not know, such as the second view of a 3D video
        return Orientation(turn=_quarters(-frame.rotation))
    if not isinstance(found, SideData) or found.buffer_size != MATRIX.size:
        return Orientation()
    a, b, _, c, d, *_ = MATRIX.unpack(bytes(found))
    is_mirrored = a * d - b * c < 0
    if is_mirrored:
        a, b = -a, -b
    return Orientation(is_mirrored, _quarters(math.degrees(math.atan2(b, a))))


def _quarters(degrees: float) -> int:
    """Return an angle of quarter turns, 0 to 270; 0 for other angles."""
    turn = round(degrees / QUARTER_TURN) * QUARTER_TURN
    return turn % (4 * QUARTER_TURN) if abs(degrees - turn) <= ROUNDING else 0


def swaps_sides(degrees: float) -> bool:
    """Whether turning a picture by this angle exchanges its width and height."""
    return _quarters(degrees) % (2 * QUARTER_TURN) == QUARTER_TURN


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Return width by height of a pixel; 1 if it is not known or not plausible."""
    aspect = stream.sample_aspect_ratio
    return aspect if aspect and Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT else Fraction(1)


def shown_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return the size in pixels at which browsers show a frame before they turn it: `aspect` enlarges one side."""
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return the size of a frame in square pixels: `aspect` reduces one side, so no pixels have to be added."""
    return (width, max(1, round(height / aspect))) if aspect > 1 else (max(1, round(width * aspect)), height)
