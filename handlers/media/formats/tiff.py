"""TIFF: a chain of directories that may be anywhere in the file and declare where the pixels are.

TIFF 6.0, section 2; BigTIFF. EXIF consists of the same directories, and so does the list of pictures in a JPEG (MPF).
"""

import functools
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

CLASSIC, BIG = 42, 43
BYTE_ORDERS: Final = {b"II": "<", b"MM": ">"}
UNSIGNED: Final = {3: "H", 4: "I", 16: "Q"}
"""The types of unsigned numbers, for sizes, offsets and codes, and their `struct` formats."""
UNSIGNED_BYTES: Final = {3: 2, 4: 4, 16: 8}
PIXEL_TAGS: Final = frozenset({256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 322, 323, 324, 325})
"""Tags that describe the pixels and where they are, from width and length to the byte counts of tiles."""
OFFSETS_AND_SIZES: Final[tuple[tuple[int, int], ...]] = ((273, 279), (324, 325))
"""Tags of the offsets and the byte counts of strips, and of tiles."""
OLD_JPEG_STREAM: Final = (513, 514)
"""Tags of the offset and the size of a JPEG (section 22). It has the pixels if there are no strips or tiles, and is a
preview otherwise."""
Buffer = Content | bytearray


class Layout(NamedTuple):
    """How a file writes numbers: byte order, and the `struct` formats of a number of entries and of an offset."""

    byte_order: str
    number: str = "H"
    offset: str = "I"

    def read(self, content: Buffer, at: int, form: str) -> tuple[int, ...]:
        """Read numbers. Raises FileCorruptedError if the file ends before them."""
        numbers = _compile(self.byte_order + form)
        if at + numbers.size > len(content):
            raise FileCorruptedError(f"the image ends in the middle of a directory, at {len(content):,} bytes")
        return numbers.unpack_from(content, at)

    def size(self, form: str) -> int:
        """Return the bytes that the numbers take."""
        return _compile(self.byte_order + form).size


@functools.lru_cache(maxsize=64)
def _compile(form: str) -> struct.Struct:
    return struct.Struct(form)


class Entry(NamedTuple):
    """One entry of a directory: tag, type, number of values, and the offsets of the entry and of its value field."""

    tag: int
    kind: int
    number: int
    start: int
    value: int


def check_content(content: Content) -> int:
    """Check every directory, and that the pixel data lies within the file; return the file size.

    The end of the file cannot be found, since other data may be anywhere.

    Raises:
        FileCorruptedError: a directory or its values lie beyond the end of the file, or are not valid.
    """
    layout, at = read_header(content)
    visited: set[int] = set()
    while at:
        if at in visited:
            raise FileCorruptedError("the image's directories form a loop")
        visited.add(at)
        _check_directory(content, at, layout)
        at = next_directory(content, at, layout)
    if not visited:
        raise FileCorruptedError("the image has no directory")
    return len(content)


def read_header(content: Content) -> tuple[Layout, int]:
    """Return how the file writes numbers, and the offset of the first directory.

    Raises:
        FileCorruptedError: the file does not begin as TIFF.
    """
    byte_order = BYTE_ORDERS.get(bytes(content[:2]), "")
    version = int.from_bytes(content[2:4], "little" if byte_order == "<" else "big")
    if not byte_order or version not in {CLASSIC, BIG}:
        raise FileCorruptedError("the image does not begin as a TIFF")
    layout = Layout(byte_order) if version == CLASSIC else Layout(byte_order, "Q", "Q")
    return layout, layout.read(content, 4 if version == CLASSIC else 8, layout.offset)[0]


def entries(content: Buffer, at: int, layout: Layout) -> Iterator[Entry]:
    """Yield the entries of the directory at an offset.

    Raises:
        FileCorruptedError: the file ends in the middle of it.
    """
    offset_bytes = layout.size(layout.offset)
    entry = _compile(f"{layout.byte_order}HH{layout.offset}{offset_bytes}x")
    (number,) = layout.read(content, at, layout.number)
    at += layout.size(layout.number)
    complete = min(number, (len(content) - at) // entry.size)
    for tag, kind, values in entry.iter_unpack(content[at : at + complete * entry.size]):
        yield Entry(tag, kind, values, at, at + entry.size - offset_bytes)
        at += entry.size
    if complete < number:
        raise FileCorruptedError(f"the image ends in the middle of a directory, at {len(content):,} bytes")


def next_directory(content: Buffer, at: int, layout: Layout) -> int:
    """Return the offset of the directory that follows the one at an offset; 0 if that is the last."""
    (number,) = layout.read(content, at, layout.number)
    entry_bytes = layout.size(f"HH{layout.offset}{layout.offset}")
    return layout.read(content, at + layout.size(layout.number) + number * entry_bytes, layout.offset)[0]


def _check_directory(content: Content, at: int, layout: Layout) -> None:
    values = read_tags(content, at, layout, PIXEL_TAGS)
    places = OFFSETS_AND_SIZES
    if not any(tag in values for tag, _ in places):
        values, places = read_tags(content, at, layout, frozenset(OLD_JPEG_STREAM)), (OLD_JPEG_STREAM,)
    if not any(tag in values for tag, _ in places):
        raise FileCorruptedError("the image's directory does not declare where its pixels are")
    for offset_tag, size_tag in places:
        offsets, sizes = values.get(offset_tag, ()), values.get(size_tag, ())
        if len(offsets) != len(sizes):
            raise FileCorruptedError("the image's directory declares offsets of pixels without sizes")
        for offset, size in zip(offsets, sizes, strict=True):
            if offset + size > len(content):
                raise FileCorruptedError(f"the image's pixels at {offset:,} go beyond its {len(content):,} bytes")


def read_tags(content: Content, at: int, layout: Layout, tags: frozenset[int]) -> dict[int, tuple[int, ...]]:
    """Return the values of some tags of the directory at an offset, which must be unsigned numbers.

    Raises:
        FileCorruptedError: a value is not an unsigned number, or the file ends before the values.
    """
    return {
        entry.tag: unsigned_values(content, entry, layout)
        for entry in entries(content, at, layout)
        if entry.tag in tags
    }


def unsigned_values(content: Content, entry: Entry, layout: Layout) -> tuple[int, ...]:
    """Return the values of an entry. They are in its value field if they fit, else at the offset that it holds."""
    if entry.kind not in UNSIGNED:
        raise FileCorruptedError(f"the image's tag {entry.tag} has type {entry.kind}, which is not an unsigned number")
    at = entry.value
    size = entry.number * UNSIGNED_BYTES[entry.kind]
    if size > (4 if layout.offset == "I" else 8):
        (at,) = layout.read(content, at, layout.offset)
    if at + size > len(content):
        raise FileCorruptedError(f"the values of the image's tag {entry.tag} go beyond its {len(content):,} bytes")
    form = UNSIGNED[entry.kind] if entry.number == 1 else f"{entry.number}{UNSIGNED[entry.kind]}"
    return _compile(layout.byte_order + form).unpack_from(content, at)
