"""PLY, the polygon (and Gaussian splat) format: a header, then the rows of the elements that it declares.

The format: http://paulbourke.net/dataformats/ply/
"""

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

MAX_HEADER: Final = 1 << 16
END: Final = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE)
CORNERS: Final = frozenset({"vertex_index", "vertex_indices"})
"""Lists of vertices: the corners of a face."""
PLACE: Final = frozenset("xyz")
FEWEST_CORNERS: Final = 3
TYPES: Final = {
    **dict.fromkeys(("char", "int8"), "b"),
    **dict.fromkeys(("uchar", "uint8"), "B"),
    **dict.fromkeys(("short", "int16"), "h"),
    **dict.fromkeys(("ushort", "uint16"), "H"),
    **dict.fromkeys(("int", "int32"), "i"),
    **dict.fromkeys(("uint", "uint32"), "I"),
    **dict.fromkeys(("float", "float32"), "f"),
    **dict.fromkeys(("double", "float64"), "d"),
}
"""Scalar types, as `struct` writes them."""


@dataclass(frozen=True, slots=True)
class Property:
    """A number in every row, or a list of them, whose length is a number of type `length`."""

    name: str
    item: str
    length: str | None = None


@dataclass(frozen=True, slots=True)
class Element:
    """So many rows of these properties."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


def end(content: Content) -> int:
    """Return where the last row of the last element ends.

    Raises:
        FileCorruptedError: the header cannot be read, rows lack, or a face has a corner that is no vertex.
    """
    last = END.search(content, 0, MAX_HEADER)
    if last is None:
        raise FileCorruptedError("the model's header has no end")
    start = last.end()
    layout, elements = _header(content[: last.start()])
    vertices = next(element.count for element in elements if element.name == "vertex")
    for element in elements:
        if layout == "ascii":
            start = _after_lines(content, start, element, vertices)
        else:
            start = _after_rows(content, start, element, vertices, "<" if layout == "binary_little_endian" else ">")
    return start


def _header(text: bytes) -> tuple[str, list[Element]]:
    layout = ""
    elements: list[Element] = []
    try:
        for line in text.decode("ascii", "replace").replace("\r\n", "\n").strip("\n").split("\n"):
            match line.split():
                case ["format", name, _]:
                    layout = name
                case ["element", name, count]:
                    elements.append(Element(name, int(count)))
                case ["property", "list", length, item, name]:
                    elements[-1].properties.append(Property(name, TYPES[item], TYPES[length]))
                case ["property", item, name]:
                    elements[-1].properties.append(Property(name, TYPES[item]))
                case ["ply"] | ["comment" | "obj_info", *_]:
                    continue  # in any characters
                case _:
                    _refuse(line)
            line.encode("ascii")
    except (ValueError, KeyError, IndexError) as error:
        raise FileCorruptedError(f"the model's header cannot be read: {error}") from None
    _check_elements(elements)
    return layout, elements


def _refuse(line: str) -> None:
    raise FileCorruptedError(f"the model's header cannot be read: {line[:80]}")


def _check_elements(elements: list[Element]) -> None:
    """Check that there are vertices with a place, and that faces, where there are any, have corners."""
    vertex = next((element for element in elements if element.name == "vertex"), None)
    if vertex is None or vertex.count == 0 or not {each.name for each in vertex.properties} >= PLACE:
        raise FileCorruptedError("the model has no vertices, or none that are places in space")
    faces = {each.name for element in elements if element.name == "face" for each in element.properties if each.length}
    if faces and not CORNERS & faces:
        raise FileCorruptedError("the model's faces have no corners")
    if min(element.count for element in elements) < 0:
        raise FileCorruptedError("the model's header counts below zero")


def _after_lines(content: Content, start: int, element: Element, vertices: int) -> int:
    """Read the rows of an element as text, one a line."""
    for row in range(element.count):
        if start >= len(content):
            raise FileCorruptedError(f"the model declares {element.count:,} {element.name} rows and has {row:,}")
        last = content.find(b"\n", start) + 1 or len(content)
        _check_words(content[start:last].split(), element, vertices)
        start = last
    return start


def _check_words(words: list[bytes], element: Element, vertices: int) -> None:
    """Check that a row of text has a number of the right type for each property."""
    at = 0
    try:
        for property_ in element.properties:
            items = 1
            if property_.length:
                items, at = int(words[at]), at + 1
            values = [_number(word, property_.item) for word in words[at : at + items]]
            if property_.length:
                _check_list(property_, values, items, vertices)
            at += len(values)
            if len(values) != items or not math.isfinite(sum(values)):
                raise FileCorruptedError(f"a row of the model's {element.name} lacks a number, or one is not finite")
    except (ValueError, IndexError, OverflowError):
        raise FileCorruptedError(f"a row of the model's {element.name} is no row of numbers") from None
    if at != len(words):
        raise FileCorruptedError(f"a row of the model's {element.name} has {len(words)} numbers instead of {at}")


def _number(word: bytes, kind: str) -> float:
    return float(word) if kind in "fd" else int(word)


def _after_rows(content: Content, start: int, element: Element, vertices: int, order: str) -> int:
    """Step over the binary rows of an element."""
    if not any(property_.length for property_ in element.properties):
        size = struct.calcsize(order + "".join(property_.item for property_ in element.properties))
        end_of_rows = _within(content, start + element.count * size, element)
        _check_places(content[start:end_of_rows], element, order)
        return end_of_rows
    scalars = [(each, struct.Struct(order + (each.length or each.item))) for each in element.properties]
    for _ in range(element.count):
        for property_, scalar in scalars:
            at, start = start, _within(content, start + scalar.size, element)
            if property_.length:
                items = int(scalar.unpack(content[at:start])[0])
                layout = f"{order}{max(items, 0)}{property_.item}"
                at, start = start, _within(content, start + struct.calcsize(layout), element)
                _check_list(property_, struct.unpack(layout, content[at:start]), items, vertices)
    return start


def _check_places(rows: bytes, element: Element, order: str) -> None:
    """Check that the coordinates of binary rows are finite; the rest of a row is stepped over."""
    layout = order + "".join(
        each.item if each.name in PLACE else f"{struct.calcsize(order + each.item)}x" for each in element.properties
    )
    if element.name == "vertex" and not math.isfinite(sum(map(sum, struct.iter_unpack(layout, rows)))):
        raise FileCorruptedError("a vertex of the model is not finite")


def _within(content: Content, at: int, element: Element) -> int:
    if at > len(content):
        raise FileCorruptedError(f"the model ends in the middle of its {element.count:,} {element.name} rows")
    return at


def _check_list(property_: Property, values: Sequence[float], items: int, vertices: int) -> None:
    """Check that a list has its items, and that a face's corners are vertices."""
    if items < 0 or items != len(values):
        raise FileCorruptedError(f"the model has a list of {items} items")
    if property_.name in CORNERS and (
        items < FEWEST_CORNERS or min(values) < 0 or max(values) >= vertices or any(value % 1 for value in values)
    ):
        raise FileCorruptedError(f"a face of the model has {items} corners, or one beyond its {vertices:,} vertices")
