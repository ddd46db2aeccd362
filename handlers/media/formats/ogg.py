"""Ogg: pages with a checksum each; the last page of every stream is marked (RFC 3533, 6)."""

import zlib
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

HEADER_BYTES: Final = 27
PAGE: Final = b"OggS"
LAST_PAGE: Final = 0x04
REVERSED_BITS: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_content(content: Content) -> int:
    """Check every page and return where the last one ends.

    Raises:
        FileCorruptedError: a page is incomplete, damaged or missing.
        IndexError: the file ends in the middle of a page header.
    """
    next_numbers: dict[bytes, int] = {}
    at = 0
    while content[at : at + 4] == PAGE:
        end = _check_page(content, at)
        stream, number = bytes(content[at + 14 : at + 18]), int.from_bytes(content[at + 18 : at + 22], "little")
        if number != next_numbers.get(stream, number):
            raise FileCorruptedError(f"a page is missing before {at:,}")
        next_numbers[stream] = number + 1
        if content[at + 5] & LAST_PAGE:
            del next_numbers[stream]
        at = end
    if next_numbers:
        raise FileCorruptedError("the last page is missing: the file is not complete")
    if at == 0 or content.find(PAGE, at) >= 0:
        raise FileCorruptedError(f"there is no page at {at:,}, where one must be")
    return at


def _check_page(content: Content, at: int) -> int:
    """Check the page at an offset and return where it ends."""
    segments = content[at + 26]
    end = at + HEADER_BYTES + segments + sum(content[at + HEADER_BYTES : at + HEADER_BYTES + segments])
    if end > len(content):
        raise FileCorruptedError(f"the last page lacks {end - len(content):,} bytes")
    page = content[at : at + 22] + bytes(4) + content[at + 26 : end]
    if _checksum(page) != int.from_bytes(content[at + 22 : at + 26], "little"):
        raise FileCorruptedError(f"the checksum of the page at {at:,} is wrong")
    return end


def _checksum(page: bytes) -> int:
    """Return Ogg's CRC-32: zlib's with all bits in reverse order and without inversion (RFC 3533, 6, field 7)."""
    reverse = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reverse.to_bytes(4, "little").translate(REVERSED_BITS), "big")
