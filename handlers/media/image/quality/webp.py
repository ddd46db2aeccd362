"""How coarsely the picture of a WebP file, or the frames of its animation, are quantized."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from handlers.media.formats import Content, Part, mapped, riff

KEY_FRAME_BYTES: Final = 10
"""Size of the uncompressed header of a key frame (RFC 6386, 9.1)."""
SEGMENTS: Final = 4
MAX_QUANTIZER: Final = 127
LINEAR_BELOW: Final = 0.75
"""libwebp's scale of quality, from 0 to 1, changes its slope here."""


def is_coarse(source: Path, quality: int) -> bool:
    """Whether all pictures are lossy, and on average quantized as coarsely as libwebp does at this quality, or more.

    The structure of the file must have been checked.
    """
    with mapped(source) as content:
        quantizers = list(_quantizers(content))
    if not quantizers or None in quantizers:
        return False
    known = [quantizer for quantizer in quantizers if quantizer is not None]
    return sum(known) / len(known) >= _quantizer_of(quality)


def _quantizer_of(quality: int) -> float:
    """Return the quantizer, 0 to 127, that libwebp uses at a quality, on average over the segments of a picture."""
    share = quality / 100
    linear = share * 2 / 3 if share < LINEAR_BELOW else 2 * share - 1
    return float(MAX_QUANTIZER * (1 - max(linear, 0.0) ** (1 / 3)))


def _quantizers(content: Content) -> Iterator[float | None]:
    """Yield the quantizer of the picture or of each frame; None if it is lossless."""
    for chunk in _all_chunks(content):
        if chunk.kind == b"VP8 ":
            yield _quantizer(content[chunk.body + KEY_FRAME_BYTES : min(chunk.body + 200, chunk.body_end)])
        elif chunk.kind == b"VP8L":
            yield None


def _all_chunks(content: Content) -> Iterator[Part]:
    """Yield the chunks of the file, and after each frame the chunks in it."""
    for chunk in riff.chunks(content, riff.FILE_HEADER_BYTES, len(content)):
        yield chunk
        if chunk.kind == b"ANMF":
            yield from riff.chunks(content, chunk.body + riff.FRAME_HEADER_BYTES, chunk.body_end)


def _quantizer(header: bytes) -> float:
    """Return the quantizer of a key frame, on average over its segments (RFC 6386, 9.2 to 9.6).

    `header` is the beginning of the first partition, after the uncompressed header.
    """
    bits = _Bits(header)
    bits.skip(2)  # colour space, clamping
    segments = _segments(bits) if bits.read(1) else None
    bits.skip(1 + 6 + 3)  # the loop filter
    if bits.read(1) and bits.read(1):
        for _ in range(2 * SEGMENTS):
            bits.skip(7 if bits.read(1) else 0)
    bits.skip(2)  # number of partitions
    base = bits.read(7)
    if segments is None:
        return base
    is_absolute, values = segments
    return sum(value if is_absolute else base + value for value in values) / SEGMENTS


def _segments(bits: "_Bits") -> tuple[bool, list[int]] | None:
    """Read the segmentation; return whether the segments' quantizers are absolute, and each of them.

    Return None if the segments have no quantizers of their own.
    """
    has_map, has_values = bits.read(1), bits.read(1)
    found = None
    if has_values:
        is_absolute = bool(bits.read(1))
        found = is_absolute, [bits.read_signed(7) if bits.read(1) else 0 for _ in range(SEGMENTS)]
        for _ in range(SEGMENTS):
            bits.skip(7 if bits.read(1) else 0)
    for _ in range(SEGMENTS - 1 if has_map else 0):
        bits.skip(8 if bits.read(1) else 0)
    return found


class _Bits:
    """Reads bits that VP8's arithmetic coder wrote with equal probabilities of 0 and 1 (RFC 6386, 7.3)."""

    def __init__(self, content: bytes) -> None:
        self._content = iter(content)
        self._value = self._next_byte() << 8 | self._next_byte()
        self._range, self._shifts = 255, 0

    def read(self, bits: int) -> int:
        """Read an unsigned number, its highest bit first."""
        number = 0
        for _ in range(bits):
            number = number << 1 | self._read_bit()
        return number

    def read_signed(self, bits: int) -> int:
        """Read a number of so many bits, and then its sign."""
        number = self.read(bits)
        return -number if self._read_bit() else number

    def skip(self, bits: int) -> None:
        """Read bits and ignore them."""
        self.read(bits)

    def _read_bit(self) -> int:
        split = 1 + (self._range - 1 >> 1)
        bit = int(self._value >= split << 8)
        if bit:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:  # noqa: PLR2004 - half of the coder's range
            self._value, self._range = self._value << 1, self._range << 1
            self._shifts += 1
            if self._shifts == 8:  # noqa: PLR2004 - bits of a byte
                self._shifts = 0
                self._value |= self._next_byte()
        return bit

    def _next_byte(self) -> int:
        return next(self._content, 0)
