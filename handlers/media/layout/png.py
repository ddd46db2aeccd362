"""PNG: chunks with a checksum each, IEND the last (PNG specification, 5.3)."""

import zlib
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.layout import Content

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
AROUND: Final = 12
"""Bytes of a chunk beside its content: length, kind, checksum."""


def end(content: Content) -> int:
    """Return where the image ends: after IEND."""
    if content[: len(SIGNATURE)] != SIGNATURE:
        raise FileCorruptedError("the image does not begin as a PNG")
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(content[at : at + 4], "big"), bytes(content[at + 4 : at + 8])
        last = at + AROUND + length
        if last > len(content):
            raise FileCorruptedError(f"the image ends in the middle of its {kind!r} chunk")
        if zlib.crc32(content[at + 4 : last - 4]) != int.from_bytes(content[last - 4 : last], "big"):
            raise FileCorruptedError(f"the checksum of the image's {kind!r} chunk at {at:,} is wrong")
        at = last
    return at
