"""PNG: chunks with a checksum each; IEND is the last one (PNG specification, 5.3)."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content, Part

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
HEADER: Final = struct.Struct(">I4s")
"""Length of the body, and type."""
CHECKSUM: Final = struct.Struct(">I")
"""CRC-32 of the type and the body; it follows the body."""


def check_content(content: Content) -> int:
    """Check every chunk and its checksum; return the end of IEND.

    Raises:
        FileCorruptedError: the signature or a chunk is damaged, or IEND is missing.
    """
    end = 0
    for kind, start, _, body_end, end in chunks(content):  # noqa: B007 - the last one is returned
        if zlib.crc32(content[start + 4 : body_end]) != CHECKSUM.unpack_from(content, body_end)[0]:
            raise FileCorruptedError(f"the checksum of the image's {kind!r} chunk at {start:,} is wrong")
    return end


def chunks(content: Content) -> Iterator[Part]:
    """Yield the chunks up to IEND. Checksums are not checked.

    Raises:
        FileCorruptedError: the file does not begin as PNG, a chunk is incomplete, or IEND is missing.
    """
    if content[: len(SIGNATURE)] != SIGNATURE:
        raise FileCorruptedError("the image does not begin as a PNG")
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if at + HEADER.size > len(content):
            raise FileCorruptedError("the image ends without an IEND chunk")
        length, kind = HEADER.unpack_from(content, at)
        body = at + HEADER.size
        end = body + length + CHECKSUM.size
        if end > len(content):
            raise FileCorruptedError(f"the image ends in the middle of its {kind!r} chunk")
        yield Part(kind, at, body, body + length, end)
        at = end


def encode_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk as it is written."""
    return HEADER.pack(len(body), kind) + body + CHECKSUM.pack(zlib.crc32(kind + body))
