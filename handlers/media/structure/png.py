"""PNG: chunks with a checksum each, IEND the last (PNG specification, 5.3)."""

import struct
import zlib
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
HEAD: Final = struct.Struct(">I4s")
"""A chunk's length and kind."""
CHECKSUM: Final = struct.Struct(">I")
AROUND: Final = 12
"""Bytes of a chunk beside its content: length, kind, checksum."""


def end(content: Content) -> int:
    """Return where the image ends: after IEND."""
    if content[: len(SIGNATURE)] != SIGNATURE:
        raise FileCorruptedError("the image does not begin as a PNG")
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if at + HEAD.size > len(content):
            raise FileCorruptedError("the image ends without an IEND chunk")
        length, kind = HEAD.unpack_from(content, at)
        last = at + AROUND + length
        if last > len(content):
            raise FileCorruptedError(f"the image ends in the middle of its {kind!r} chunk")
        if zlib.crc32(content[at + 4 : last - 4]) != CHECKSUM.unpack_from(content, last - 4)[0]:
            raise FileCorruptedError(f"the checksum of the image's {kind!r} chunk at {at:,} is wrong")
        at = last
    return at
