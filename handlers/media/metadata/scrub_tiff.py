# ruff: noqa: PLR2004 - TIFF is made of figures; TIFF 6.0, section 2, has them
"""TIFF's directories, which EXIF consists of too: what turns a picture, and what tells more than pixels need."""

import struct
from typing import Final

ORIENTATION: Final = 0x112
POINTERS: Final = frozenset({0x8769, 0x8825, 0xA005})
"""EXIF, GPS and interoperability: directories of their own."""
PRIVATE: Final = POINTERS | {
    *(0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x13C, 0x8298),  # description, maker, model, software, time, ...
    *(0x2BC, 0x83BB, 0x8649, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, 0xCD41),  # XMP, IPTC, Photoshop, Windows, C2PA
    0xC4A5,  # print image matching
}
SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
MOST_DIRECTORIES: Final = 10_000


def orientation_of(exif: bytes) -> int:
    """Return how the picture is to be turned, 1 to 8; 1 where that is not told."""
    try:
        order, at = _start(exif)
        for entry in range(struct.unpack_from(order + "H", exif, at)[0]):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, at + 2 + 12 * entry)
            if tag == ORIENTATION:
                return int(value) if 1 <= value <= 8 else 1
    except (struct.error, ValueError):
        pass
    return 1


def scrub_tiff(content: bytes, xmp: bytes | None) -> bytes:
    """Take the private tags out of every page's directory and blank what they pointed to; nothing else moves."""
    order, at = _start(content)
    file, said = bytearray(content), xmp or b""
    for _ in range(MOST_DIRECTORIES):
        if not at:
            return bytes(file)
        at = _scrub_page(file, order, at, said)
    raise ValueError("the pages have no end")


def _start(content: bytes) -> tuple[str, int]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        raise ValueError("no classic TIFF")
    return order, struct.unpack_from(order + "I", content, 4)[0]


def _entries(file: bytearray, order: str, at: int) -> list[bytes]:
    (count,) = struct.unpack_from(order + "H", file, at)
    return [bytes(file[at + 2 + 12 * entry : at + 14 + 12 * entry]) for entry in range(count)]


def _scrub_page(file: bytearray, order: str, at: int, xmp: bytes) -> int:
    """Close the directory's ranks behind the tags that go; return where the next page's directory is."""
    entries = _entries(file, order, at)
    (following,) = struct.unpack_from(order + "I", file, at + 2 + 12 * len(entries))
    kept = []
    for entry in entries:
        tag, kind, count, place = struct.unpack(order + "HHII", entry)
        if tag == 0x2BC and xmp and len(xmp) <= count * SIZES.get(kind, 0):
            file[place : place + count] = xmp.ljust(count)
            kept.append(entry)
        elif tag in PRIVATE:
            _blank(file, order, entry)
        else:
            kept.append(entry)
    table = struct.pack(order + "H", len(kept)) + b"".join(kept) + struct.pack(order + "I", following)
    size = 6 + 12 * len(entries)
    file[at : at + size] = table.ljust(size, b"\0")
    return int(following)


def _blank(file: bytearray, order: str, entry: bytes) -> None:
    """Overwrite an entry's value, and a whole directory where it points to one."""
    tag, kind, count, place = struct.unpack(order + "HHII", entry)
    if tag in POINTERS:
        inner = _entries(file, order, place)
        for one in inner:
            _blank(file, order, one)
        place, size = place + 2, 12 * len(inner)
        file[place - 2 : place] = bytes(2)
    else:
        size = count * SIZES.get(kind, 0)
        if size <= 4:
            return  # the value stands in the entry, which goes
    if place + size > len(file):
        raise ValueError("a value lies beyond the end")
    file[place : place + size] = bytes(size)
