"""RIFF, the container of WebP and WAV: chunks inside one chunk that declares their total length.

WebP: RFC 9649, 2.3 to 2.7. WAV: RFC 2361.
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
PCM: Final = 1
FORMAT: Final = struct.Struct("<HHIIHH")
UNKNOWN_LENGTH: Final = 0x7FFF_0000
"""This length or more, or zero, means that the length was not known when the header was written. Text-to-speech
services that stream WAV send such headers."""


def check_content(content: Content) -> int:
    """Check every chunk and return the end of the outer one; a WAV of unknown length ends with the file.

    Raises:
        FileCorruptedError: a chunk is damaged, or the file is shorter than it declares.
    """
    if len(content) < FILE_HEADER_BYTES or content[:4] != b"RIFF" or content[8:12] not in {b"WEBP", b"WAVE"}:
        raise FileCorruptedError("the file does not begin as RIFF")
    is_wav = content[8:12] == b"WAVE"
    end = declared_end(content)
    if is_wav and _is_unknown(end - HEADER.size):
        end = len(content)
    if end > len(content):
        raise FileCorruptedError(f"the file declares {end:,} bytes and has {len(content):,}")
    last = _check_chunks(content, FILE_HEADER_BYTES, end, is_wav=is_wav)
    return min(max(last, end), len(content))


def declared_end(content: Content) -> int:
    """Return where the outer chunk ends by its own length, which may be beyond the end of the file."""
    return HEADER.size + int.from_bytes(content[4:8], "little")


def chunks(content: Content, start: int, end: int, *, is_wav: bool = False) -> Iterator[Part]:
    """Yield the chunks between two offsets. The `data` chunk of a WAV may have an unknown length and ends at `end`.

    Raises:
        FileCorruptedError: a chunk is longer than its parent.
    """
    while start + HEADER.size <= end:
        kind, length = HEADER.unpack(content[start : start + HEADER.size])
        body = start + HEADER.size
        if is_wav and kind == b"data" and _is_unknown(length):
            yield Part(kind, start, body, end, end)
            return
        chunk = Part(kind, start, body, body + length, body + length + length % 2)
        if chunk.body_end > end:
            raise FileCorruptedError(f"the file's {kind!r} chunk goes beyond its end")
        yield chunk
        start = chunk.end


def encode_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk as it is written, padded to an even length."""
    return HEADER.pack(kind, len(body)) + body + bytes(len(body) % 2)


def _is_unknown(length: int) -> bool:
    return length == 0 or length >= UNKNOWN_LENGTH


def _check_chunks(content: Content, start: int, end: int, *, is_wav: bool = False) -> int:
    """Check the chunks between two offsets and return where the last one ends, padding included."""
    last = start
    for chunk in chunks(content, start, end, is_wav=is_wav):
        if not (chunk.kind.isascii() and chunk.kind.decode("ascii").isprintable()):
            raise FileCorruptedError(f"the file has no chunk at {chunk.start:,}, where one must be")
        last = chunk.end
        if chunk.kind == b"fmt ":
            _check_format(content[chunk.body : chunk.body_end])
        if chunk.kind == b"ANMF":
            frame = chunk.body + FRAME_HEADER_BYTES
            if _check_chunks(content, frame, chunk.body_end) != chunk.body_end:
                raise FileCorruptedError(f"the chunks of the animation frame at {chunk.body:,} do not fill it")
    return last


def _check_format(body: bytes) -> None:
    """Check that the block size of PCM audio fits its channels and bits per sample."""
    if len(body) < FORMAT.size:
        raise FileCorruptedError("the file does not declare its audio format")
    kind, channels, rate, _, block, bits = FORMAT.unpack(body[: FORMAT.size])
    if kind == PCM and (rate == 0 or channels == 0 or block != channels * ((bits + 7) // 8)):
        raise FileCorruptedError(f"the file declares {channels} channels of {bits} bits in blocks of {block} bytes")
