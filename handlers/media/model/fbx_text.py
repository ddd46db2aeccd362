"""FBX as text: lines `Name: values {`, comments after a semicolon, arrays as `Name: *count {` and `a: 1,2,3`."""

import re
from dataclasses import dataclass, field
from typing import Final

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media.formats import Content

QUOTED: Final = re.compile(rb'"[^"]*"')
NUMBER: Final = rb"[-+]?(?:\d++\.?\d*+|\.\d++)(?:[eE][-+]?\d++)?"
NUMBERS: Final = re.compile(rb"\s*(?:" + NUMBER + rb"\s*(?:,\s*|$))*+")
VALUE: Final = rb"(?:\*\d+|\"\"|[A-Za-z]\w*|" + NUMBER + rb")"
STATEMENT: Final = re.compile(rb"([A-Za-z_][\w|]*)\s*:\s*(?:" + VALUE + rb"(?:\s*,\s*" + VALUE + rb")*+\s*,?)?\s*(\{?)")
CONTINUED: Final = re.compile(rb",?\s*" + VALUE + rb"(?:\s*,\s*" + VALUE + rb")*+\s*,?")
"""The rest of a long list of values, on the lines after the first."""
ARRAY: Final = re.compile(rb"(\w+)\s*:\s*\*(\d{1,10})\s*\{")
ARRAY_CONTENT: Final = b"a"
"""The name before the numbers of an array."""
POSITIONS, POLYGONS = b"Vertices", b"PolygonVertexIndex"
"""The arrays of a mesh with its vertices, and with the corners of its faces. The last corner of a face is negative."""
MAX_DEPTH: Final = 64
REQUIRED: Final = frozenset({b"Objects", b"Connections"})
"""The outermost nodes that every model has. A file that lacks the second was cut."""


@dataclass(slots=True)
class _Array:
    """An array that is being read: the number of numbers that it declares, and of those found so far.

    `has_begun`: the line with `a:` was read. `corners` has the numbers of the array POLYGONS, and is empty for others.
    """

    name: bytes
    declared: int
    found: int = 0
    has_begun: bool = False
    corners: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _State:
    depth: int = 0
    is_continued: bool = False  # the line before ended with a comma
    array: _Array | None = None
    vertices: int = 0
    names: set[bytes] = field(default_factory=set)


def check_content(content: Content) -> int:
    """Check every line; return the file size.

    Raises:
        FileCorruptedError: a line is no statement, a node is not closed, an array is incomplete, a face refers to a
            vertex that does not exist, or the objects or connections are missing.
        DecoderLimitError: nodes are nested deeper than MAX_DEPTH.
    """
    state = _State()
    for number, line in enumerate(content[:].splitlines(), 1):
        words = QUOTED.sub(b'""', line).partition(b";")[0].strip(b" \t")
        if not words:
            continue
        if not _read_line(state, words):
            raise FileCorruptedError(f"line {number:,} of the model is no valid statement, or an array is not complete")
        state.is_continued = words.endswith(b",")
        if state.depth > MAX_DEPTH:
            raise DecoderLimitError(f"the model's nodes are nested deeper than {MAX_DEPTH}")
    if state.depth or not state.names >= REQUIRED:
        raise FileCorruptedError("the model is not complete: a node is not closed, or its objects are missing")
    return len(content)


def _read_line(state: _State, words: bytes) -> bool:
    """Read a line; return whether it is valid."""
    if words == b"}":
        array, state.array = state.array, None
        state.depth -= 1
        return state.depth >= 0 and (array is None or _is_complete(state, array))
    if state.array is not None:
        return _read_numbers(state.array, words)
    statement = STATEMENT.fullmatch(words)
    if statement is None:
        is_continued = state.is_continued or words.startswith(b",")
        return state.depth > 0 and is_continued and CONTINUED.fullmatch(words) is not None
    if statement[1] == ARRAY_CONTENT:
        return False
    if state.depth == 0:
        state.names.add(statement[1])
    state.depth += statement[2] == b"{"
    if (declared := ARRAY.fullmatch(words)) is not None:
        state.array = _Array(declared[1], int(declared[2]))
    return True


def _read_numbers(array: _Array, words: bytes) -> bool:
    """Read a line of an array; return whether it is valid. The first one begins with `a:`, others have numbers only."""
    numbers = words
    if not array.has_begun:
        name, _, numbers = words.partition(b":")
        array.has_begun = name.strip() == ARRAY_CONTENT
    if not array.has_begun or NUMBERS.fullmatch(numbers) is None:
        return False
    array.found += len(numbers.rstrip(b" \t,").split(b",")) if numbers else 0
    if array.name == POLYGONS:
        try:
            array.corners += [int(number) for number in numbers.split(b",") if number.strip()]
        except ValueError:
            return False
    return True


def _is_complete(state: _State, array: _Array) -> bool:
    """Whether an array has all its numbers, and corners refer to vertices of the array POSITIONS before it."""
    if array.name == POSITIONS:
        state.vertices = array.found // 3
    corners = array.corners
    is_valid = not corners or (max(corners) < state.vertices and -1 - min(corners) < state.vertices and corners[-1] < 0)
    return is_valid and array.found == array.declared
