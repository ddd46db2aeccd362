"""PLY, the polygon (and Gaussian splat) format: the header, and that all declared elements are there.

Runs in a codec process. The format: http://paulbourke.net/dataformats/ply/
"""

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from handlers.errors import FileCorruptedError

MAX_HEADER: Final = 1 << 16
END: Final = b"end_header"
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


@dataclass(slots=True)
class Element:
    """So many rows of these properties; a list property is (type of its length, type of its items)."""

    name: str
    count: int
    properties: list[tuple[str, ...]] = field(default_factory=list)


def check_ply(source: Path) -> None:
    """Check header and element counts. Raises FileCorruptedError."""
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(END, 0, MAX_HEADER)
        if end < 0:
            raise FileCorruptedError("the model's header has no end")
        layout, elements = _header(content[:end])
        start = content.find(b"\n", end) + 1 or len(content)
        if layout == "ascii":
            _check_lines(content, start, sum(element.count for element in elements))
            return
        order = "<" if layout == "binary_little_endian" else ">"
        for element in elements:
            start = _end_of(element, content, start, order)
            if start > len(content):
                raise FileCorruptedError(f"the model ends in the middle of its {element.count:,} {element.name} rows")


def _header(text: bytes) -> tuple[str, list[Element]]:
    layout = ""
    elements: list[Element] = []
    try:
        for line in text.decode("ascii", "replace").splitlines():
            match line.split():
                case ["format", name, _]:
                    layout = name
                case ["element", name, count]:
                    elements.append(Element(name, int(count)))
                case ["property", "list", length, item, _]:
                    elements[-1].properties.append((TYPES[length], TYPES[item]))
                case ["property", scalar, _]:
                    elements[-1].properties.append((TYPES[scalar],))
    except (ValueError, KeyError, IndexError) as error:
        raise FileCorruptedError(f"the model's header cannot be read: {error}") from None
    if not any(element.name == "vertex" and element.count > 0 for element in elements):
        raise FileCorruptedError("the model has no vertices")
    if min(element.count for element in elements) < 0:
        raise FileCorruptedError("the model's header counts below zero")
    return layout, elements


def _check_lines(content: mmap.mmap, start: int, wanted: int) -> None:
    content.seek(start)
    found = sum(1 for line in iter(content.readline, b"") if line.strip())
    if found < wanted:
        raise FileCorruptedError(f"the model declares {wanted:,} rows and has {found:,}")


def _end_of(element: Element, content: mmap.mmap, start: int, order: str) -> int:
    """Return where the element's rows end; beyond the content where some lack."""
    if all(len(kinds) == 1 for kinds in element.properties):
        return start + element.count * struct.calcsize(order + "".join(kinds[0] for kinds in element.properties))
    lengths = [(struct.Struct(order + kinds[0]), _item_size(kinds)) for kinds in element.properties]
    for _ in range(element.count):
        for layout, item in lengths:
            if start + layout.size > len(content):
                return len(content) + 1
            start += layout.size + (item and item * layout.unpack_from(content, start)[0])
    return start


def _item_size(kinds: tuple[str, ...]) -> int:
    return struct.calcsize("<" + kinds[1]) if len(kinds) > 1 else 0
