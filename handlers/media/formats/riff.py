"""RIFF, the container of WebP, WAV and AVI: chunks inside one chunk that declares their total length.

`check_content` is for WebP (RFC 9649, 2.3 to 2.7). `wav.py` and `av/avi.py` check the others.
"""

import struct
from collections.abc import Iterator
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content, Part

FILE_HEADER_BYTES: Final = 12
"""`RIFF`, the length, and `WEBP` or `WAVE`."""
HEADER: Final = struct.Struct("<4sI")
"""Type, and length of the body."""
FRAME_HEADER_BYTES: Final = 16
"""The fields of a WebP frame (ANMF) before its chunks."""


def check_content(content: Content) -> int:
    """Check every chunk and return the end of the outer one.

    Raises:
        FileCorruptedError: a chunk is damaged, or the file is shorter than it declares.
    """
    if len(content) < FILE_HEADER_BYTES or content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise FileCorruptedError("the file does not begin as WebP")
    end = declared_end(content)
    if end > len(content):
        raise FileCorruptedError(f"the file declares {end:,} bytes and has {len(content):,}")
    last = _check_chunks(content, FILE_HEADER_BYTES, end)
    return min(max(last, end), len(content))


def declared_end(content: Content) -> int:
    """Return where the outer chunk ends by its own length, which may be beyond the end of the file."""
    return HEADER.size + int.from_bytes(content[4:8], "little")


def read_chunk(content: Content, start: int) -> Part:
    """Return the chunk at an offset; its end may be beyond that of the file. Raises struct.error if no header fits."""
    kind, length = HEADER.unpack_from(content, start)
    body = start + HEADER.size
    return Part(kind, start, body, body + length, body + length + length % 2)


def chunks(content: Content, start: int, end: int) -> Iterator[Part]:
    """Yield the chunks between two offsets.

    Raises:
        FileCorruptedError: a chunk is longer than its parent.
    """
    while start + HEADER.size <= end:
        chunk = read_chunk(content, start)
        if chunk.body_end > end:
            raise FileCorruptedError(f"the file's {chunk.kind!r} chunk goes beyond its end")
        yield chunk
        start = chunk.end


def encode_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk as it is written, padded to an even length."""
    return HEADER.pack(kind, len(body)) + body + bytes(len(body) % 2)


def _check_chunks(content: Content, start: int, end: int, *, in_frame: bool = False) -> int:
    """Check the chunks between two offsets and return where the last one ends, padding included."""
    last = start
    for chunk in chunks(content, start, end):
        if not (chunk.kind.isascii() and chunk.kind.decode("ascii").isprintable()):
            raise FileCorruptedError(f"the file has no chunk at {chunk.start:,}, where one must be")
        last = chunk.end
        if chunk.kind == b"ANMF":
            if in_frame:
                raise FileCorruptedError(f"the animation frame at {chunk.start:,} is inside another one")
            frame = chunk.body + FRAME_HEADER_BYTES
            if _check_chunks(content, frame, chunk.body_end, in_frame=True) != chunk.body_end:
                raise FileCorruptedError(f"the chunks of the animation frame at {chunk.body:,} do not fill it")
    return last
