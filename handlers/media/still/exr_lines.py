"""Checks of a one-part OpenEXR picture that is stored in lines: the number of blocks, and the size of each."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

Header = dict[bytes, bytes]
BOX: Final = struct.Struct("<iiii")
LINES: Final = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}
"""How many lines a block has, by compression."""
ZIPPED: Final = frozenset({2, 3})
"""The compressions ZIPS and ZIP, which use zlib."""
SAMPLE_BYTES: Final = {0: 4, 1: 2, 2: 4}
"""Bytes of a sample, by its type: unsigned integer, half, float."""
CHANNEL_BYTES: Final = 16
"""Bytes of a channel's type, flags and sampling, which follow its name."""


def check(content: Content, offsets: Sequence[int], header: Header) -> None:
    """Check that the blocks hold all lines; inflate blocks that zlib compressed.

    Blocks of an unknown compression are not checked. If a channel is subsampled, only their number is.

    Raises:
        FileCorruptedError: blocks are missing or too many, or a block does not have the size of its lines.
    """
    _, top, _, bottom = BOX.unpack(header[b"dataWindow"])
    compression = header[b"compression"][0]
    lines = LINES.get(compression)
    if lines is None:
        return
    if len(offsets) != -(-(bottom - top + 1) // lines):
        raise FileCorruptedError(f"the image has {len(offsets):,} blocks, not those of {bottom - top + 1:,} lines")
    line_bytes = _line_bytes(header)
    for offset in offsets if line_bytes else ():
        first, size = struct.unpack("<iI", content[offset : offset + 8].ljust(8, b"\0"))
        pixels = min(lines, bottom - first + 1) * line_bytes
        if not top <= first <= bottom or size > pixels or (compression == 0 and size != pixels):
            raise FileCorruptedError(f"the block at byte {offset:,} of the image is damaged")
        if compression in ZIPPED and size < pixels:
            _check_zipped(content[offset + 8 : offset + 8 + size], pixels)


def size_of(header: Header, name: bytes) -> tuple[int, int]:
    """Return width and height of a window. Raises FileCorruptedError if it is missing or empty."""
    value = header.get(name, b"")
    if len(value) != BOX.size:
        raise FileCorruptedError(f"the image does not declare its {name.decode()}")
    left, top, right, bottom = BOX.unpack(value)
    if right < left or bottom < top:
        raise FileCorruptedError(f"the {name.decode()} of the image is empty")
    return right - left + 1, bottom - top + 1


def _line_bytes(header: Header) -> int:
    """Return the bytes of an uncompressed line; 0 if a channel is subsampled. Raises FileCorruptedError."""
    width, height = size_of(header, b"dataWindow")
    total = 0
    for kind, across, down in _channels(header[b"channels"]):
        if across < 1 or down < 1 or width % across or height % down:
            raise FileCorruptedError("the sampling of a channel of the image does not divide its size")
        if (across, down) != (1, 1):
            return 0
        total += width * SAMPLE_BYTES[kind]
    return total


def _channels(value: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the type, and the horizontal and vertical sampling, of each channel. Raises FileCorruptedError."""
    at = 0
    while value[at : at + 1] not in {b"", b"\0"}:
        start = value.find(b"\0", at) + 1
        field = value[start : start + CHANNEL_BYTES]
        if start == 0 or len(field) < CHANNEL_BYTES or field[0] not in SAMPLE_BYTES or any(field[1:4]):
            raise FileCorruptedError("the channels of the image are damaged")
        yield field[0], *struct.unpack("<ii", field[8:])
        at = start + CHANNEL_BYTES


def _check_zipped(block: bytes, pixels: int) -> None:
    unpacker = zlib.decompressobj()
    try:
        size = len(unpacker.decompress(block, pixels + 1))
    except zlib.error as error:
        raise FileCorruptedError(f"a block of the image cannot be unpacked: {error}") from None
    if size != pixels or not unpacker.eof:
        raise FileCorruptedError(f"a block of the image has {size:,} bytes instead of {pixels:,}")
