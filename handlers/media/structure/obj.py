"""Wavefront OBJ: lines of text, each a keyword and its values (http://paulbourke.net/dataformats/obj/)."""

import math
from collections.abc import Iterator
from typing import Final

from handlers.detect.signatures import OBJ_KEYWORDS
from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

FEWEST: Final = {b"f": 3, b"l": 2, b"p": 1}
"""Corners an element has at least."""
COORDINATES: Final = 3, 8
"""Place; place and weight; either with a colour, which some writers give four numbers."""
FREE_FORM: Final = frozenset({b"curv", b"curv2", b"surf"})


def end(content: Content) -> int:
    """Check every line. The text goes to the end of the file.

    Raises:
        FileCorruptedError: a line is none of the format's, a corner is no vertex, or there is nothing to see.
    """
    vertices = elements = 0
    furthest = 0
    for number, words in _lines(content):
        keyword = words[0]
        if keyword == b"v":
            vertices += 1
            _check_vertex(words, vertices)
        elif keyword in FEWEST:
            elements += 1
            furthest = max(furthest, _furthest(words, number, vertices))
        elif keyword not in OBJ_KEYWORDS:
            raise FileCorruptedError(f"line {number:,} of the model begins with {keyword[:20]!r}")
        elements += keyword in FREE_FORM
    if not vertices or not elements:
        raise FileCorruptedError(f"the model has {vertices} vertices and {elements} faces, lines or points")
    if furthest > vertices:
        raise FileCorruptedError(f"a face of the model has corner {furthest:,} of {vertices:,} vertices")
    return len(content)


def _lines(content: Content) -> Iterator[tuple[int, list[bytes]]]:
    """Yield each line's number and words; a backslash at its end carries on in the next."""
    carried = b""
    for number, line in enumerate(content[:].removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if line.endswith(b"\\"):
            carried += line[:-1] + b" "
            continue
        words = (carried + line).split()
        carried = b""
        if b"\0" in line:
            raise FileCorruptedError(f"line {number:,} of the model is no text")
        if words and not words[0].startswith(b"#"):
            yield number, words


def _check_vertex(words: list[bytes], number: int) -> None:
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise FileCorruptedError(f"vertex {number} of the model has something else than coordinates") from None
    if not COORDINATES[0] <= len(values) <= COORDINATES[1]:
        raise FileCorruptedError(f"vertex {number} of the model has {len(values)} coordinates")
    if not math.isfinite(sum(values)):
        raise FileCorruptedError(f"vertex {number} of the model is not finite")


def _furthest(words: list[bytes], number: int, vertices: int) -> int:
    """Return an element's highest corner; counted from the end where it is negative."""
    try:
        corners = [int(word.partition(b"/")[0]) for word in words[1:]]
    except ValueError:
        raise FileCorruptedError(f"line {number:,} of the model has a corner that is no number") from None
    if len(corners) < FEWEST[words[0]] or 0 in corners or min(corners) < -vertices:
        raise FileCorruptedError(f"line {number:,} of the model lacks corners")
    return max(corners)
