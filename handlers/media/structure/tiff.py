"""TIFF: a chain of directories that may lie anywhere, and say where the pixels lie (TIFF 6.0, section 2; BigTIFF)."""

import struct
from dataclasses import dataclass
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

CLASSIC, BIG = 42, 43
NUMBERS: Final = {3: "H", 4: "I", 16: "Q"}
"""Types a size, a place or a code may have."""
COUNTED: Final = frozenset({256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 322, 323, 324, 325})
"""Tags that say what the pixels are and where (width, length, bits... to a tile's bytes)."""
PLACES: Final = ((273, 279), (324, 325))
"""Tags of strips' and tiles' offsets, and of their lengths."""


@dataclass(frozen=True, slots=True)
class Order:
    """How this file writes numbers: byte order, and the forms of a count, an entry and an offset."""

    mark: str
    count: str
    offset: str

    def read(self, content: Content, at: int, form: str) -> tuple[int, ...]:
        """Read numbers. Raises FileCorruptedError where the file ends before them."""
        size = struct.calcsize(self.mark + form)
        if at + size > len(content):
            raise FileCorruptedError(f"the image ends in the middle of a directory, at {len(content):,} bytes")
        return struct.unpack(self.mark + form, content[at : at + size])


def end(content: Content) -> int:
    """Check every directory, and that the pixels are there. What follows cannot be told from a part of the image.

    Raises:
        FileCorruptedError: a directory, or what it points to, lies beyond the end, or says what it must not.
    """
    mark = {b"II": "<", b"MM": ">"}.get(bytes(content[:2]), "")
    version = int.from_bytes(content[2:4], "little" if mark == "<" else "big")
    if not mark or version not in {CLASSIC, BIG}:
        raise FileCorruptedError("the image does not begin as a TIFF")
    order = Order(mark, "H", "I") if version == CLASSIC else Order(mark, "Q", "Q")
    (at,) = order.read(content, 4 if version == CLASSIC else 8, order.offset)
    seen: set[int] = set()
    while at:
        if at in seen:
            raise FileCorruptedError("the image's directories go round in a circle")
        seen.add(at)
        at = _after_directory(content, at, order)
    if not seen:
        raise FileCorruptedError("the image has no directory")
    return len(content)


def _after_directory(content: Content, at: int, order: Order) -> int:
    """Check one directory and return where the next one is; 0: there is none."""
    (entries,) = order.read(content, at, order.count)
    at += struct.calcsize(order.mark + order.count)
    form = f"HH{order.offset}"
    width = struct.calcsize(order.mark + form + order.offset)
    found = {}
    for _ in range(entries):
        tag, kind, count = order.read(content, at, form)
        if tag in COUNTED:
            found[tag] = _values(content, at + struct.calcsize(order.mark + form), kind, count, order)
        at += width
    if not any(tag in found for tag, _ in PLACES):
        raise FileCorruptedError("the image's directory does not say where its pixels are")
    for places, lengths in PLACES:
        if len(found.get(places, ())) != len(found.get(lengths, ())):
            raise FileCorruptedError("the image's directory has places without lengths")
        for start, length in zip(found.get(places, ()), found.get(lengths, ()), strict=True):
            if start + length > len(content):
                raise FileCorruptedError(f"the image's pixels at {start:,} go beyond its {len(content):,} bytes")
    return order.read(content, at, order.offset)[0]


def _values(content: Content, at: int, kind: int, count: int, order: Order) -> tuple[int, ...]:
    """Return a tag's numbers, which lie in the entry itself where they fit."""
    if kind not in NUMBERS:
        raise FileCorruptedError(f"the image's directory has a tag of type {kind}, where numbers must stand")
    form = f"{count}{NUMBERS[kind]}"
    if struct.calcsize(order.mark + form) > struct.calcsize(order.mark + order.offset):
        (at,) = order.read(content, at, order.offset)
    return order.read(content, at, form)
