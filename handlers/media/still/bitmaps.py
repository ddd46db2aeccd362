# ruff: noqa: PLR2004 - binary formats consist of numbers; the headers of these formats define them
"""BMP, TGA and ICO: checks of their headers, which say where the pixels end."""

import struct
from typing import Final

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media.formats import Content

BMP_HEADER: Final = struct.Struct("<10xIIiiHHI")
"""Offset of the pixels, bytes of the second header, width, height, planes, bits of a pixel, compression."""
UNCOMPRESSED_BMP: Final = frozenset({0, 3, 6})
"""Values of `compression` with which pixels are not compressed: BI_RGB, BI_BITFIELDS and BI_ALPHABITFIELDS."""
TGA_HEADER: Final = struct.Struct("<BBBHHBHHHHBB")
MAX_ICON_SIDE: Final = 4096
"""Valid icons have sides of at most 256 pixels. A bitmap in an icon declares twice its height, because of its mask."""
ICO_HEADER_BYTES, ICO_ENTRY_BYTES = 6, 16
UNCOMPRESSED_TGA: Final = frozenset({1, 2, 3})
TGA_FOOTER: Final = b"TRUEVISION-XFILE.\0"


def check_content(content: Content) -> int:
    """Return where the picture ends: after the pixels, the last picture of an icon, or the footer of a TGA.

    For a compressed BMP, and a compressed TGA without a footer, return the file size.

    Raises:
        FileCorruptedError: the header is damaged, or pixels are missing.
        DecoderLimitError: a picture of an icon is larger than MAX_ICON_SIDE.
    """
    check = _bmp_end if content[:2] == b"BM" else _ico_end if content[:4] == b"\0\0\1\0" else _tga_end
    try:
        end = check(content)
    except struct.error:
        end = len(content) + 1
    if end > len(content):
        raise FileCorruptedError(f"the image declares {end:,} bytes and has {len(content):,}")
    return end


def _bmp_end(content: Content) -> int:
    start, header, width, height, _, bits, compression = BMP_HEADER.unpack(content[: BMP_HEADER.size])
    if header < 40 or compression not in UNCOMPRESSED_BMP:
        return len(content)
    return int(start + (width * bits + 31) // 32 * 4 * abs(height))


def _tga_end(content: Content) -> int:
    name, _, kind, _, colours, colour_bits, _, _, width, height, bits, _ = TGA_HEADER.unpack(content[: TGA_HEADER.size])
    end = TGA_HEADER.size + name + colours * ((colour_bits + 7) // 8)
    if kind in UNCOMPRESSED_TGA:
        end += width * height * ((bits + 7) // 8)
    footer = content.find(TGA_FOOTER, end)
    if footer >= 0:
        return footer + len(TGA_FOOTER)
    return int(end) if kind in UNCOMPRESSED_TGA else len(content)


def _ico_end(content: Content) -> int:
    count = int.from_bytes(content[4:6], "little")
    table = ICO_HEADER_BYTES + count * ICO_ENTRY_BYTES
    entries = [struct.unpack("<8xII", content[at : at + ICO_ENTRY_BYTES]) for at in range(6, table, ICO_ENTRY_BYTES)]
    if not entries or any(size == 0 or start < table for size, start in entries):
        raise FileCorruptedError("the icon has no picture, or one without bytes")
    for _, start in entries:
        _check_icon(content[start : start + 24])
    return int(max(start + size for size, start in entries))


def _check_icon(head: bytes) -> None:
    """Check the declared size of one picture, because Pillow decodes an icon when it opens it."""
    is_png = head.startswith(b"\x89PNG")
    sides = struct.unpack(">II", head[16:24]) if is_png else struct.unpack("<II", head[4:12])
    if max(sides) > MAX_ICON_SIDE:
        raise DecoderLimitError(f"a picture of the icon has {sides[0]:,} x {sides[1]:,} pixels")
