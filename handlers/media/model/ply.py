"""PLY, the format of polygons and Gaussian splats: a header, then the rows of the elements that it declares.

The format: http://paulbourke.net/dataformats/ply/
"""

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

MAX_HEADER_BYTES: Final = 1 << 16
END_OF_HEADER: Final = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE)
CORNERS: Final = frozenset({"vertex_index", "vertex_indices"})
"""The property with the corners of a face, which are numbers of vertices."""
COORDINATES: Final = frozenset("xyz")
MIN_CORNERS: Final = 3
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
"""Scalar types and their `struct` formats."""


@dataclass(frozen=True, slots=True)
class Property:
    """A number in every row, or a list of numbers if `length`, the type of its length, is given."""

    name: str
    item: str
    length: str | None = None


@dataclass(frozen=True, slots=True)
class Element:
    """A table of `count` rows with these properties."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


def check_content(content: Content) -> int:
    """Check every row and return where the last one ends.

    Raises:
        FileCorruptedError: the header is not valid, rows are missing, or a face refers to a vertex that does not exist.
    """
    marker = END_OF_HEADER.search(content, 0, MAX_HEADER_BYTES)
    if marker is None:
        raise FileCorruptedError("the model's header has no end")
    start = marker.end()
    encoding, elements = _parse_header(content[: marker.start()])
    vertices = next(element.count for element in elements if element.name == "vertex")
    for element in elements:
        if encoding == "ascii":
            start = _check_text_rows(content, start, element, vertices)
        else:
            start = _check_binary_rows(
                content, start, element, vertices, "<" if encoding == "binary_little_endian" else ">"
            )
    return start


def _parse_header(text: bytes) -> tuple[str, list[Element]]:
    encoding = ""
    elements: list[Element] = []
    try:
        for line in text.decode("ascii", "replace").replace("\r\n", "\n").strip("\n").split("\n"):
            match line.split():
                case ["format", name, _]:
                    encoding = name
                case ["element", name, count]:
                    elements.append(Element(name, int(count)))
                case ["property", "list", length, item, name]:
                    elements[-1].properties.append(Property(name, TYPES[item], TYPES[length]))
                case ["property", item, name]:
                    elements[-1].properties.append(Property(name, TYPES[item]))
                case ["ply"] | ["comment" | "obj_info", *_]:
                    continue  # any characters
                case _:
                    _refuse(line)
            line.encode("ascii")
    except (ValueError, KeyError, IndexError) as error:
        raise FileCorruptedError(f"the model's header cannot be read: {error}") from None
    _check_elements(elements)
    return encoding, elements


def _refuse(line: str) -> None:
    raise FileCorruptedError(f"the model's header cannot be read: {line[:80]}")


def _check_elements(elements: list[Element]) -> None:
    """Check that there are vertices with coordinates, and that faces have corners."""
    vertex = next((element for element in elements if element.name == "vertex"), None)
    if vertex is None or vertex.count == 0 or not {each.name for each in vertex.properties} >= COORDINATES:
        raise FileCorruptedError("the model has no vertices, or they have no coordinates")
    faces = {each.name for element in elements if element.name == "face" for each in element.properties if each.length}
    if faces and not CORNERS & faces:
        raise FileCorruptedError("the model's faces have no corners")
    if min(element.count for element in elements) < 0:
        raise FileCorruptedError("the model's header declares a negative number of rows")


def _check_text_rows(content: Content, start: int, element: Element, vertices: int) -> int:
    """Check the rows of an element in text, one per line; return where the last one ends."""
    for row in range(element.count):
        if start >= len(content):
            raise FileCorruptedError(f"the model declares {element.count:,} {element.name} rows and has {row:,}")
        last = content.find(b"\n", start) + 1 or len(content)
        _check_words(content[start:last].split(), element, vertices)
        start = last
    return start


def _check_words(words: list[bytes], element: Element, vertices: int) -> None:
    """Check that a row in text has a number of the right type for each property."""
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
                raise FileCorruptedError(
                    f"a row of the model's {element.name} has too few numbers, or one that is not finite"
                )
    except (ValueError, IndexError, OverflowError):
        raise FileCorruptedError(f"a row of the model's {element.name} does not consist of numbers") from None
    if at != len(words):
        raise FileCorruptedError(f"a row of the model's {element.name} has {len(words)} numbers instead of {at}")


def _number(word: bytes, kind: str) -> float:
    return float(word) if kind in "fd" else int(word)


def _check_binary_rows(content: Content, start: int, element: Element, vertices: int, order: str) -> int:
    """Check the binary rows of an element; return where the last one ends."""
    if not any(property_.length for property_ in element.properties):
        size = struct.calcsize(order + "".join(property_.item for property_ in element.properties))
        end = _check_bound(content, start + element.count * size, element)
        _check_coordinates(content[start:end], element, order)
        return end
    scalars = [(each, struct.Struct(order + (each.length or each.item))) for each in element.properties]
    for _ in range(element.count):
        for property_, scalar in scalars:
            at, start = start, _check_bound(content, start + scalar.size, element)
            if property_.length:
                items = int(scalar.unpack(content[at:start])[0])
                layout = f"{order}{max(items, 0)}{property_.item}"
                at, start = start, _check_bound(content, start + struct.calcsize(layout), element)
                _check_list(property_, struct.unpack(layout, content[at:start]), items, vertices)
    return start


def _check_coordinates(rows: bytes, element: Element, order: str) -> None:
    """Check that the coordinates in binary rows are finite; the other properties are skipped."""
    layout = order + "".join(
        each.item if each.name in COORDINATES else f"{struct.calcsize(order + each.item)}x"
        for each in element.properties
    )
    if element.name == "vertex" and not math.isfinite(sum(map(sum, struct.iter_unpack(layout, rows)))):
        raise FileCorruptedError("a vertex of the model is not finite")


def _check_bound(content: Content, at: int, element: Element) -> int:
    if at > len(content):
        raise FileCorruptedError(f"the model ends in the middle of its {element.count:,} {element.name} rows")
    return at


def _check_list(property_: Property, values: Sequence[float], items: int, vertices: int) -> None:
    """Check the number of items of a list, and that a face refers to existing vertices only."""
    if items < 0 or items != len(values):
        raise FileCorruptedError(f"the model has a list of {items} items")
    if property_.name in CORNERS and (
        items < MIN_CORNERS or min(values) < 0 or max(values) >= vertices or any(value % 1 for value in values)
    ):
        raise FileCorruptedError(f"a face of the model has {items} corners, or one beyond its {vertices:,} vertices")
