"""Wavefront OBJ: lines of text with a keyword and its values (http://paulbourke.net/dataformats/obj/).

Almost all lines of a large model are vertices, normals, texture coordinates and triangles. Runs of these lines are
checked by regular expressions, all others word by word.
"""

import functools
import math
import re
from typing import Final

from handlers.detect.signatures import OBJ_KEYWORDS
from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.model.number_patterns import BLANKS, LINE_END, MAX_LINES, NATURAL, NUMBER

MIN_CORNERS: Final = {b"f": 3, b"l": 2, b"p": 1}
"""Minimum number of corners of an element."""
MIN_COORDINATES, MAX_COORDINATES = 3, 8
"""Numbers of a vertex: a position of three, then a weight or none, then a colour of three or four or none."""
FREE_FORM: Final = frozenset({b"curv", b"curv2", b"surf"})
POINTS: Final = frozenset({b"v", b"vn"})
"""A model with only these keywords is a point cloud. Any other model without elements was cut."""
RUNS: Final = (
    rb"(?P<v>(?:v(?:%(blanks)b%(number)b){%(least)d,%(most)d}%(end)b){1,%(lines)d})"
    rb"|(?P<vn>(?:vn[ \t][^\r\n\\\0]*+\r?+\n){1,%(lines)d})"
    rb"|(?P<vt>(?:vt[ \t][^\r\n\\\0]*+\r?+\n){1,%(lines)d})"
    rb"|(?P<f>(?:f(?:%(blanks)b%(natural)b(?:/[0-9]*+(?:/[0-9]*+)?)?){3,64}%(end)b){1,%(lines)d})"
)
RUN: Final = re.compile(
    RUNS
    % {
        b"blanks": BLANKS,
        b"number": NUMBER,
        b"natural": NATURAL,
        b"end": LINE_END,
        b"least": MIN_COORDINATES,
        b"most": MAX_COORDINATES,
        b"lines": MAX_LINES,
    }
)
"""Several lines with the same keyword. They are valid, except that corners may be zero or beyond the vertices."""
MIN_LINES: Final = 256
"""From this many lines of faces on, compiling a pattern that finds invalid corners takes less time than `int` does."""
CORNERS: Final = re.compile(rb"[ \t]([0-9]++)")
LINE: Final = re.compile(rb"([^\r\n]*+)(?:\r\n|\r|\n|\Z)")


def check_content(content: Content) -> int:
    """Check every line; return the file size.

    Raises:
        FileCorruptedError: a line does not belong to the format, a corner refers to a vertex that does not exist, or
            there is no vertex or, except in a point cloud, no element.
    """
    model = _Model()
    text = content[:].removeprefix(b"\xef\xbb\xbf")
    at = 0
    while at < len(text):
        run = RUN.match(text, at)
        if run is None or model.is_continued:
            line = next(LINE.finditer(text, at))
            model.add_line(line[1])
            at = line.end()
        else:
            model.add_run(str(run.lastgroup).encode(), run[0])
            at = run.end()
    model.check_end()
    return len(content)


class _Model:
    """What was read so far: the number of lines, vertices and elements, and the highest vertex number of a corner."""

    def __init__(self) -> None:
        self._lines = self._vertices = self._elements = self._highest = 0
        self._is_point_cloud = True
        self._continued = b""

    @property
    def is_continued(self) -> bool:
        """Whether the last line ended with a backslash, so that the next one continues it."""
        return bool(self._continued)

    def add_run(self, keyword: bytes, run: bytes) -> None:
        """Add lines that match RUN."""
        lines = run.count(b"\n")
        if keyword == b"v":
            self._vertices += lines
        elif keyword == b"f":
            self._elements += lines
            if lines < MIN_LINES or _invalid_corner(self._vertices).search(run):
                self._add_corners(run)
        self._is_point_cloud = self._is_point_cloud and keyword in POINTS
        self._lines += lines

    def add_line(self, line: bytes) -> None:
        """Add any one line. If it ends with a backslash, the next line continues it."""
        self._lines += 1
        if line.endswith(b"\\"):
            self._continued += line[:-1] + b" "
            return
        words = (self._continued + line).split()
        self._continued = b""
        if b"\0" in line:
            raise FileCorruptedError(f"line {self._lines:,} of the model contains a zero byte")
        if words and not words[0].startswith(b"#"):
            self._add_words(words)

    def check_end(self) -> None:
        """Check what can only be checked when the whole file was read."""
        vertices, elements = self._vertices, self._elements
        if not vertices or not (elements or self._is_point_cloud):
            raise FileCorruptedError(f"the model has {vertices} vertices and {elements} faces, lines or points")
        if self._highest > vertices:
            raise FileCorruptedError(f"a face of the model has corner {self._highest:,} of {vertices:,} vertices")

    def _add_corners(self, faces: bytes) -> None:
        corners = list(map(int, CORNERS.findall(faces)))
        if min(corners) == 0:
            raise FileCorruptedError(f"a face after line {self._lines:,} of the model has a corner 0")
        self._highest = max((self._highest, *corners))

    def _add_words(self, words: list[bytes]) -> None:
        keyword = words[0]
        self._is_point_cloud = self._is_point_cloud and keyword in POINTS
        if keyword == b"v":
            self._vertices += 1
            _check_vertex(words, self._vertices)
        elif keyword in MIN_CORNERS:
            self._elements += 1
            self._highest = max(self._highest, _highest_corner(words, self._lines, self._vertices))
        elif keyword not in OBJ_KEYWORDS:
            raise FileCorruptedError(f"line {self._lines:,} of the model begins with {keyword[:20]!r}")
        self._elements += keyword in FREE_FORM


@functools.lru_cache(maxsize=16)
def _invalid_corner(vertices: int) -> re.Pattern[bytes]:
    """Return a pattern for a corner that is zero or larger than `vertices`."""
    digits = str(vertices)
    larger = [
        f"{digits[:at]}[{int(digit) + 1}-9][0-9]{{{len(digits) - at - 1}}}(?![0-9])"
        for at, digit in enumerate(digits)
        if digit != "9"
    ]
    longer = f"[1-9][0-9]{{{len(digits)}}}"
    return re.compile(rf"[ \t](?:0++(?![0-9])|0*+(?:{'|'.join([longer, *larger])}))".encode())


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
    """Return the highest corner of an element. Negative corners count back from the last vertex."""
    try:
        corners = [int(word.partition(b"/")[0]) for word in words[1:]]
    except ValueError:
        raise FileCorruptedError(f"line {number:,} of the model has a corner that is not a number") from None
    if len(corners) < MIN_CORNERS[words[0]] or 0 in corners or min(corners) < -vertices:
        raise FileCorruptedError(f"line {number:,} of the model has too few corners, or invalid ones")
    return max(corners)
