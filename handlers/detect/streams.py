# ruff: noqa: PLR2004 - binary formats consist of numbers; each check names the standard that defines them
"""Detects MPEG transport streams, and bitmaps without a magic number of their own: BMP, ICO and TGA."""

from typing import Final

PACKET_BYTES: Final = 188
SYNC: Final = 0x47
MIN_PACKETS: Final = 3
DIB_HEADERS: Final = frozenset({12, 40, 52, 56, 64, 108, 124})
"""The sizes in bytes that BMP's second header, after the file header, may have."""
BIT_DEPTHS: Final = frozenset({1, 2, 4, 8, 16, 24, 32})


def transport_stream(head: bytes) -> str | None:
    """Detect a transport stream: at least MIN_PACKETS packets, all beginning with SYNC (ISO/IEC 13818-1, 2.4.3)."""
    firsts = head[::PACKET_BYTES]
    return "video/mp2t" if len(firsts) >= MIN_PACKETS and set(firsts) == {SYNC} else None


def bitmap(head: bytes) -> str | None:
    """Detect BMP and ICO by several fields, since their magic numbers are short."""
    if head[:2] == b"BM" and len(head) >= 30:
        header = int.from_bytes(head[14:18], "little")
        planes, bits = (head[22:24], head[24:26]) if header == 12 else (head[26:28], head[28:30])
        is_bmp = header in DIB_HEADERS and planes == b"\1\0" and int.from_bytes(bits, "little") in BIT_DEPTHS
        return "image/bmp" if is_bmp else None
    if head[:4] == b"\0\0\1\0" and len(head) >= 22:
        count, start = int.from_bytes(head[4:6], "little"), int.from_bytes(head[18:22], "little")
        is_ico = 0 < count <= 256 and head[9] == 0 and start >= 6 + 16 * count
        return "image/vnd.microsoft.icon" if is_ico else None
    return None


def tga(head: bytes) -> str | None:
    """Detect TGA, which has no magic number, by a header whose fields are all valid (Truevision TGA 2.0)."""
    if len(head) < 18:
        return None
    has_map, kind, bits, descriptor = head[1], head[2], head[16], head[17]
    colour_map, size = head[3:8], (int.from_bytes(head[12:14], "little"), int.from_bytes(head[14:16], "little"))
    if 0 in size or descriptor & 0xC0:
        return None
    if kind in {1, 9}:
        is_tga = has_map == 1 and bits == 8 and colour_map[4] in {15, 16, 24, 32} and colour_map[2] + colour_map[3] > 0
    else:
        depths = {2: {16: {0, 1}, 24: {0}, 32: {0, 8}}, 3: {8: {0}, 16: {0, 8}}}.get(kind & 7, {})
        is_tga = has_map == 0 and kind in {2, 3, 10, 11} and colour_map == bytes(5)
        is_tga = is_tga and descriptor & 15 in depths.get(bits, ())
    return "image/x-tga" if is_tga else None
