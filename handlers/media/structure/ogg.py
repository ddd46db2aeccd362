"""Ogg: pages with a checksum each, the last of every stream marked so (RFC 3533, 6)."""

import zlib
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

HEAD: Final = 27
MARK: Final = b"OggS"
LAST_PAGE: Final = 0x04
REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def end(content: Content) -> int:
    """Return where the last page ends.

    Raises:
        FileCorruptedError: a page is cut, damaged or missing, or a stream's last one is.
    """
    open_streams: dict[bytes, int] = {}
    at = 0
    while content[at : at + 4] == MARK:
        last = _page_end(content, at)
        serial, number = bytes(content[at + 14 : at + 18]), int.from_bytes(content[at + 18 : at + 22], "little")
        if number != open_streams.get(serial, number):
            raise FileCorruptedError(f"a page is missing before {at:,}")
        open_streams[serial] = number + 1
        if content[at + 5] & LAST_PAGE:
            del open_streams[serial]
        at = last
    if open_streams:
        raise FileCorruptedError("the last page is missing: the file is not complete")
    if at == 0 or content.find(MARK, at) >= 0:
        raise FileCorruptedError(f"there is no page at {at:,}, where one must stand")
    return at


def _page_end(content: Content, at: int) -> int:
    segments = content[at + 26]
    last = at + HEAD + segments + sum(content[at + HEAD : at + HEAD + segments])
    if last > len(content):
        raise FileCorruptedError(f"the last page lacks {last - len(content):,} bytes")
    page = content[at : at + 22] + bytes(4) + content[at + 26 : last]
    if _checksum(page) != int.from_bytes(content[at + 22 : at + 26], "little"):
        raise FileCorruptedError(f"the checksum of the page at {at:,} is wrong")
    return last


def _checksum(page: bytes) -> int:
    """Return Ogg's CRC-32: zlib's with every bit order turned, and no inversion (RFC 3533, 6, field 7)."""
    turned = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(turned.to_bytes(4, "little").translate(REVERSED), "big")
