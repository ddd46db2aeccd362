# ruff: noqa: PLR2004 - TIFF 6.0, section 2, defines the numbers
"""Removing metadata from TIFF directories, and reading the orientation from EXIF, which has the same directories."""

import struct
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content, tiff

ORIENTATION: Final = 0x112
XMP: Final = 0x2BC
DIRECTORIES: Final = frozenset({0x8769, 0x8825, 0xA005})
"""Tags whose values are offsets of directories: EXIF, GPS and interoperability."""
PRIVATE: Final = DIRECTORIES | {
    *(0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x13C, 0x8298),  # description, maker, model, software, time, ...
    *(XMP, 0x83BB, 0x8649, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, 0xCD41),  # XMP, IPTC, Photoshop, Windows, C2PA
    0xC4A5,  # print image matching
}
TYPE_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""The size in bytes of one value, by its type."""
MAX_DIRECTORIES: Final = 10_000


def orientation_of(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8; 1 if it has none or is damaged."""
    try:
        layout, at = _read_classic_header(exif)
        for entry in tiff.entries(exif, at, layout):
            if entry.tag == ORIENTATION:
                (value,) = layout.read(exif, entry.value, "H")
                return value if 1 <= value <= 8 else 1
    except FileCorruptedError:
        pass
    return 1


def xmp_in_tiff(content: Content) -> bytes | None:
    """Return the XMP packet of the first page; None if it has none, or the file is damaged or a BigTIFF."""
    try:
        layout, at = _read_classic_header(content)
        for entry in tiff.entries(content, at, layout):
            if entry.tag == XMP and _value_bytes(entry) > 4:
                (start,) = layout.read(content, entry.value, "I")
                return bytes(content[start : start + _value_bytes(entry)])
    except FileCorruptedError:
        pass
    return None


def remove_from_tiff(content: bytes, xmp: bytes | None) -> bytes:
    """Remove the PRIVATE tags from the directory of every page, and overwrite their values with zeros.

    If `xmp` is given, it replaces the page's XMP where it fits. Pixels and values of other tags are not moved.

    Raises:
        FileCorruptedError: a directory is damaged, there are too many, or the file is a BigTIFF.
        struct.error: an offset lies beyond the end of the file.
    """
    layout, at = _read_classic_header(content)
    file = bytearray(content)
    pages = _page_directories(content, at, layout)
    visited = set(pages)
    for page in pages:
        _clean_directory(file, page, layout, xmp or b"", visited)
    return bytes(file)


def _page_directories(content: bytes, at: int, layout: tiff.Layout) -> list[int]:
    """Return the offsets of the directories of all pages."""
    pages: list[int] = []
    while at:
        pages.append(at)
        if len(pages) > MAX_DIRECTORIES:
            raise FileCorruptedError(f"the image has more than {MAX_DIRECTORIES:,} directories, or they form a loop")
        at = tiff.next_directory(content, at, layout)
    return pages


def _read_classic_header(content: Content) -> tuple[tiff.Layout, int]:
    layout, at = tiff.read_header(content)
    if layout.offset != "I":
        raise FileCorruptedError("BigTIFF is not supported here")
    return layout, at


def _clean_directory(file: bytearray, at: int, layout: tiff.Layout, xmp: bytes, visited: set[int]) -> None:
    """Remove the PRIVATE entries of the directory at `at`, and move its other entries up. XMP is replaced by `xmp`."""
    entries = list(tiff.entries(file, at, layout))
    following = tiff.next_directory(file, at, layout)
    kept = []
    for entry in entries:
        content = bytes(file[entry.start : entry.value + 4])
        if entry.tag == XMP and xmp and len(xmp) <= _value_bytes(entry):
            (start,) = layout.read(file, entry.value, "I")
            file[start : start + entry.number] = xmp.ljust(entry.number)
            kept.append(content)
        elif entry.tag in PRIVATE:
            _overwrite(file, layout, entry, visited)
        else:
            kept.append(content)
    order = layout.byte_order
    table = struct.pack(order + "H", len(kept)) + b"".join(kept) + struct.pack(order + "I", following)
    size = 6 + 12 * len(entries)
    file[at : at + size] = table.ljust(size, b"\0")


def _value_bytes(entry: tiff.Entry) -> int:
    return entry.number * TYPE_BYTES.get(entry.kind, 0)


def _overwrite(file: bytearray, layout: tiff.Layout, entry: tiff.Entry, visited: set[int]) -> None:
    """Overwrite the value of an entry with zeros. If the value is a directory, also overwrite all values in there.

    A directory whose offset is in `visited` is skipped, and others are added: directories may refer to each other.
    """
    pending = [_value_of(file, layout, entry)]
    while pending:
        tag, start, size = pending.pop()
        if tag in DIRECTORIES:
            if start in visited:
                continue
            visited.add(start)
            inner = list(tiff.entries(file, start, layout))
            pending += [_value_of(file, layout, each) for each in inner]
            size = 2 + 12 * len(inner)
        elif size <= 4:
            continue  # the value is in the entry itself, which is removed
        if start + size > len(file):
            raise FileCorruptedError(f"the value of the image's tag {tag} lies beyond the end of the file")
        file[start : start + size] = bytes(size)


def _value_of(file: bytearray, layout: tiff.Layout, entry: tiff.Entry) -> tuple[int, int, int]:
    """Return tag, offset and size in bytes of the value of an entry. The offset is meaningless up to four bytes."""
    (start,) = layout.read(file, entry.value, "I")
    return entry.tag, start, _value_bytes(entry)
