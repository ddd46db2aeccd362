"""WAV: a RIFF file of which one chunk, `data`, has the sound (RFC 2361).

A program that streams WAV writes the header before it knows the lengths, and often cannot correct it afterwards. Such a
file plays in every player, up to its end. It is stored with the right lengths.
"""

import struct
from typing import Final, NamedTuple

from handlers.errors import FileCorruptedError
from handlers.media.formats import Checked, Content, Part, riff

PCM: Final = 1
FORMAT: Final = struct.Struct("<HHIIHH")
LENGTH: Final = struct.Struct("<I")
UNKNOWN_LENGTH: Final = 1_999_000_000
"""This length or more, or zero, means that the length was not known when the header was written. Writers use
2,000,000,000, 0x7FFFFFFF, 0xFFFFFFFF, and these less the header."""
MAX_SURPLUS: Final = 8
"""Some writers count the eight bytes of the outer header, or padding that is not there."""


class SoundLayout(NamedTuple):
    """The offset of the `data` chunk, the length of its body in bytes, and where the file ends."""

    data: int
    length: int
    end: int


def check_and_repair(content: Content) -> Checked:
    """Check every chunk; return the end of the outer one, or of the last chunk if the outer length is not usable.

    If a length in the headers is wrong, the parts to store have the right ones.

    Raises:
        FileCorruptedError: a chunk is damaged, or the file is shorter than it declares.
    """
    layout = _read_layout(content)
    outer = riff.declared_end(content) - riff.HEADER.size
    if abs(outer + riff.HEADER.size - layout.end) > 1:  # one byte of padding may be counted or not
        outer = layout.end - riff.HEADER.size
    at = layout.data + LENGTH.size
    lengths = [LENGTH.pack(min(length, 0xFFFFFFFF)) for length in (outer, layout.length)]
    if lengths == [content[4:8], content[at : at + 4]]:
        return Checked(layout.end)
    return Checked(layout.end, [(0, 4), lengths[0], (8, at), lengths[1], (at + LENGTH.size, layout.end)])


def _read_layout(content: Content) -> SoundLayout:
    if len(content) < riff.FILE_HEADER_BYTES or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise FileCorruptedError("the file does not begin as WAV")
    data, block = _find_data(content)
    declared = riff.declared_end(content)
    if _is_unknown(declared - riff.HEADER.size) or declared < data.body_end:
        end = _end_of_chunks(content, data, len(content), is_strict=False)
    elif declared > len(content) + MAX_SURPLUS:
        raise FileCorruptedError(f"the file declares {declared:,} bytes and has {len(content):,}")
    else:
        last = _end_of_chunks(content, data, min(declared, len(content)), is_strict=True)
        if declared > len(content) > last:
            raise FileCorruptedError(f"the file declares {declared:,} bytes and has {len(content):,}")
        end = max(last, declared)
    length = data.body_end - data.body
    if data.body_end == len(content) and length % block:  # the stream was ended within a sample
        length -= length % block
        end = data.body + length
    return SoundLayout(data.start, length, min(end, len(content)))


def _find_data(content: Content) -> tuple[Part, int]:
    """Return the `data` chunk, and the size of its blocks in bytes. Check the chunks before it."""
    at, block = riff.FILE_HEADER_BYTES, 1
    while at + riff.HEADER.size <= len(content):
        chunk = riff.read_chunk(content, at)
        if not _is_name(chunk.kind):
            raise FileCorruptedError(f"the file has no chunk at {at:,}, where one must be")
        if chunk.kind == b"data":
            chunk = _with_length(chunk, content)
        if chunk.body_end > len(content):
            raise FileCorruptedError(f"the file's {chunk.kind!r} chunk goes beyond its end")
        if chunk.kind == b"data":
            return chunk, block
        if chunk.kind == b"fmt ":
            block = _check_format(content[chunk.body : chunk.body_end])
        at = chunk.end
    raise FileCorruptedError("the file has no data chunk")


def _with_length(data: Part, content: Content) -> Part:
    """Return the `data` chunk. If its length is unknown, let it end with the outer chunk, or else with the file."""
    if not _is_unknown(data.body_end - data.body):
        return data
    declared = riff.declared_end(content)
    end = declared if data.body < declared < len(content) else len(content)
    return data._replace(body_end=end, end=end)


def _end_of_chunks(content: Content, data: Part, end: int, *, is_strict: bool) -> int:
    """Return where the last chunk ends. Bytes that are no chunk are an error if `is_strict`, else a tail."""
    last = data.end
    while last + riff.HEADER.size <= end:
        chunk = riff.read_chunk(content, last)
        if not _is_name(chunk.kind) or chunk.body_end > end:
            if is_strict:
                raise FileCorruptedError(f"the file has no chunk at {last:,}, where one must be, or not all of it")
            break
        last = chunk.end
    return last


def _is_unknown(length: int) -> bool:
    return length == 0 or length >= UNKNOWN_LENGTH


def _is_name(kind: bytes) -> bool:
    return kind.isascii() and kind.decode("ascii").isprintable()


def _check_format(body: bytes) -> int:
    """Check that the block size of PCM audio fits its channels and bits per sample; return it, 1 for other audio."""
    if len(body) < FORMAT.size:
        raise FileCorruptedError("the file does not declare its audio format")
    kind, channels, rate, _, block, bits = FORMAT.unpack(body[: FORMAT.size])
    if kind != PCM:
        return 1
    if 0 in {rate, channels, block} or block != channels * ((bits + 7) // 8):
        raise FileCorruptedError(f"the file declares {channels} channels of {bits} bits in blocks of {block} bytes")
    return int(block)
