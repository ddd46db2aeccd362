"""PNG: chunks with a checksum each; IEND is the last one (PNG specification, 5.3)."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Checked, Content, Part

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
HEADER: Final = struct.Struct(">I4s")
"""Length of the body, and type."""
CHECKSUM: Final = struct.Struct(">I")
"""CRC-32 of the type and the body; it follows the body."""

ANIMATION_CONTROL: Final = b"acTL"
ANIMATION: Final = frozenset({b"fcTL", b"fdAT"})


def check_and_repair(content: Content) -> Checked:
    """Check every chunk and its checksum; return the end of IEND.

    A chunk that is not needed for the pixels may have a wrong checksum, since viewers ignore it. The parts to store
    then lack this chunk.

    Raises:
        FileCorruptedError: the signature or a chunk is damaged, or IEND is missing.
    """
    kinds: set[bytes] = set()
    parts: list[bytes | tuple[int, int]] = []
    start = end = 0
    for chunk in chunks(content):
        end = chunk.end
        if not is_damaged(content, chunk):
            kinds.add(chunk.kind)
            continue
        if not _is_optional(chunk.kind):
            raise FileCorruptedError(f"the checksum of the image's {chunk.kind!r} chunk at {chunk.start:,} is wrong")
        parts.append((start, chunk.start))
        start = end
    if parts and kinds & ANIMATION and ANIMATION_CONTROL not in kinds:
        raise FileCorruptedError("the image has the frames of an animation, and no undamaged acTL chunk")
    return Checked(end, [*parts, (start, end)] if parts else [])


def is_damaged(content: Content, chunk: Part) -> bool:
    """Whether the checksum of a chunk is wrong."""
    checksum: int = CHECKSUM.unpack_from(content, chunk.body_end)[0]
    return zlib.crc32(content[chunk.start + 4 : chunk.body_end]) != checksum


def _is_optional(kind: bytes) -> bool:
    """Whether viewers ignore a chunk of this type if it is damaged (PNG specification, 5.4: the first letter)."""
    return kind[:1].islower() and kind not in ANIMATION and kind != ANIMATION_CONTROL


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
