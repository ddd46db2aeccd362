"""Wavefront OBJ: lines of text with a keyword and its values (http://paulbourke.net/dataformats/obj/)."""

import math
from collections.abc import Iterator
from typing import Final

from handlers.detect.signatures import OBJ_KEYWORDS
from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

MIN_CORNERS: Final = {b"f": 3, b"l": 2, b"p": 1}
"""Minimum number of corners of an element."""
MIN_COORDINATES, MAX_COORDINATES = 3, 8
"""Position; position and weight; either with a colour of three or four numbers."""
FREE_FORM: Final = frozenset({b"curv", b"curv2", b"surf"})
POINTS: Final = frozenset({b"v", b"vn"})
"""The keywords of a point cloud, which may lack elements. With other keywords, the elements have been cut off."""


def check_content(content: Content) -> int:
    """Check every line; return the file size.

    Raises:
        FileCorruptedError: a line does not belong to the format, a face refers to a vertex that does not exist, or the
            model is empty.
    """
    vertices = elements = 0
    highest = 0
    is_point_cloud = True
    for number, words in _lines(content):
        keyword = words[0]
        is_point_cloud = is_point_cloud and keyword in POINTS
        if keyword == b"v":
            vertices += 1
            _check_vertex(words, vertices)
        elif keyword in MIN_CORNERS:
            elements += 1
            highest = max(highest, _highest_corner(words, number, vertices))
        elif keyword not in OBJ_KEYWORDS:
            raise FileCorruptedError(f"line {number:,} of the model begins with {keyword[:20]!r}")
        elements += keyword in FREE_FORM
    if not vertices or not (elements or is_point_cloud):
        raise FileCorruptedError(f"the model has {vertices} vertices and {elements} faces, lines or points")
    if highest > vertices:
        raise FileCorruptedError(f"a face of the model has corner {highest:,} of {vertices:,} vertices")
    return len(content)


def _lines(content: Content) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the number and the words of each line; a backslash at its end continues it."""
    continued = b""
    for number, line in enumerate(content[:].removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if line.endswith(b"\\"):
            continued += line[:-1] + b" "
            continue
        words = (continued + line).split()
        continued = b""
        if b"\0" in line:
            raise FileCorruptedError(f"line {number:,} of the model contains a zero byte")
        if words and not words[0].startswith(b"#"):
            yield number, words


def _check_vertex(words: list[bytes], number: int) -> None:
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise FileCorruptedError(f"vertex {number} of the model has a coordinate that is not a number") from None
    if not MIN_COORDINATES <= len(values) <= MAX_COORDINATES:
        raise FileCorruptedError(f"vertex {number} of the model has {len(values)} coordinates")
    if not math.isfinite(sum(values)):
        raise FileCorruptedError(f"vertex {number} of the model is not finite")


def _highest_corner(words: list[bytes], number: int, vertices: int) -> int:
    """Return the highest corner of an element. Negative corners count from the last vertex."""
    try:
        corners = [int(word.partition(b"/")[0]) for word in words[1:]]
    except ValueError:
        raise FileCorruptedError(f"line {number:,} of the model has a corner that is not a number") from None
    if len(corners) < MIN_CORNERS[words[0]] or 0 in corners or min(corners) < -vertices:
        raise FileCorruptedError(f"line {number:,} of the model has too few corners, or invalid ones")
    return max(corners)
