"""PLY, a format of polygons and Gaussian splats: a header, then the rows of the elements that the header declares.

The format: http://paulbourke.net/dataformats/ply/
"""

import re
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.model.ply import binary_rows, text_rows
from handlers.media.model.ply.rows import COORDINATES, CORNERS, FLOATS, Element, Property

MAX_HEADER_BYTES: Final = 1 << 16
END_OF_HEADER: Final = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE)
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
            start = text_rows.check_rows(content, start, element, vertices)
        else:
            order = "<" if encoding == "binary_little_endian" else ">"
            start = binary_rows.check_rows(content, start, element, vertices, order)
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
                case ["property", "list", length, item, name] if TYPES[length] not in FLOATS:
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
