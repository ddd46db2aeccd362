"""The rows of an element of a PLY file in text, one per line.

Successive lines with the same number of plain numbers, such as vertices or triangles, are matched together. All other
lines are read word by word.
"""

import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.model.number_patterns import BLANKS, INTEGER, LINE_END, MAX_LINES, NATURAL, NUMBER
from handlers.media.model.ply.rows import FLOATS, Element, Property, check_corners, check_length

MAX_LAYOUTS: Final = 32
"""Maximum number of patterns for the lines of an element. A pattern takes up to 20 ms to compile."""
MAX_WORDS: Final = 256
"""Lines with more numbers are read word by word."""
Numbers = list[float]
Lengths = tuple[int, ...]


class _LineRun(NamedTuple):
    """Lines with lists of the same lengths: a pattern, the number of words of a line, and which ones are corners."""

    lines: re.Pattern[bytes]
    words: int
    corners: list[int]


def check_rows(content: Content, start: int, element: Element, vertices: int) -> int:
    """Check the rows of an element that begin at an offset; return where the last one ends.

    Raises:
        FileCorruptedError: rows are missing, a number is not finite, or a corner is none of the vertices.
    """
    row = 0
    layout: _LineRun | None = None
    layouts: dict[Lengths, _LineRun | None] = {}
    while row < element.count:
        run = layout.lines.match(content, start) if layout else None
        if run and layout:
            lines = run[0].splitlines(keepends=True)[: element.count - row]
            text = b"".join(lines)
            _check_run(text, layout, vertices)
            row, start = row + len(lines), start + len(text)
            continue
        if start >= len(content):
            raise FileCorruptedError(f"the model declares {element.count:,} {element.name} rows and has {row:,}")
        last = content.find(b"\n", start) + 1 or len(content)
        lengths = _check_words(content[start:last].split(), element, vertices)
        if lengths not in layouts and len(layouts) < MAX_LAYOUTS:
            layouts[lengths] = _layout(element.properties, lengths)
        layout = layouts.get(lengths)
        row, start = row + 1, last
    return start


def _layout(properties: Sequence[Property], lengths: Lengths) -> _LineRun | None:
    """Return the pattern of lines with lists of these lengths; None if they exceed MAX_WORDS, or corners are floats."""
    words: list[bytes] = []
    corners: list[int] = []
    remaining = iter(lengths)
    for property_ in properties:
        items = 1
        if property_.length:
            items = next(remaining)
            words.append(b"%d" % items)
        if len(words) + items > MAX_WORDS or (property_.has_corners and property_.item in FLOATS):
            return None
        if property_.has_corners:
            corners += range(len(words), len(words) + items)
        number = NATURAL if property_.has_corners else NUMBER if property_.item in FLOATS else INTEGER
        words += [number] * items
    line = rb"[ \t]*+" + BLANKS.join(words) + LINE_END
    return _LineRun(re.compile(b"(?:%b){1,%d}" % (line, MAX_LINES)), len(words), corners)


def _check_run(lines: bytes, layout: _LineRun, vertices: int) -> None:
    """Check the corners in lines that match the pattern."""
    if not layout.corners:
        return
    words = lines.split()
    for column in layout.corners:
        check_corners(0, max(map(int, words[column :: layout.words])), vertices)


def _check_words(words: list[bytes], element: Element, vertices: int) -> Lengths:
    """Check that a row has a number of the right type for each property; return the lengths of its lists."""
    at, lengths = 0, []
    try:
        for property_ in element.properties:
            items = 1
            if property_.length:
                items, at = int(words[at]), at + 1
                check_length(property_, items)
                lengths.append(items)
            values = [_number(word, property_.item) for word in words[at : at + items]]
            at += len(values)
            if len(values) != items or not math.isfinite(sum(values)):
                raise FileCorruptedError(
                    f"a row of the model's {element.name} has too few numbers, or one that is not finite"
                )
            if property_.has_corners:
                _check_corners(values, vertices)
    except (ValueError, IndexError, OverflowError):
        raise FileCorruptedError(f"a row of the model's {element.name} does not consist of numbers") from None
    if at != len(words):
        raise FileCorruptedError(f"a row of the model's {element.name} has {len(words)} numbers instead of {at}")
    return tuple(lengths)


def _check_corners(values: Numbers, vertices: int) -> None:
    check_corners(min(values), max(values), vertices)
    if any(value % 1 for value in values):
        raise FileCorruptedError("a face of the model has a corner that is no whole number")


def _number(word: bytes, kind: str) -> float:
    return float(word) if kind in FLOATS else int(word)
