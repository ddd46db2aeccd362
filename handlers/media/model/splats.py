"""Gaussian splats: SPZ, packed by gzip, and SPLAT, records of 32 bytes without a header.

SPZ: https://github.com/nianticlabs/spz. SPLAT: https://github.com/antimatter15/splat.
"""

import math
import struct
import zlib
from typing import Final

from handlers.detect.models import GZIP, SPLAT, SPZ_MAGIC
from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media.archive import MAX_UNPACKED, PIECE_BYTES
from handlers.media.formats import Content

HEADER: Final = struct.Struct("<4sIIBBBB")
"""Magic number, version, splats, degree of the colours' harmonics, fractional bits, flags, reserved."""
POSITION_BYTES: Final = {1: 6, 2: 9, 3: 9}
"""Bytes of a position by version."""
ROTATION_BYTES: Final = {1: 3, 2: 3, 3: 4}
OTHER_BYTES: Final = 7
"""Opacity, colour and scale."""
HARMONICS: Final = (0, 9, 24, 45)
"""Bytes of a splat's harmonics by degree."""
POSITION_AND_SCALE: Final = struct.Struct("<6f8x")
"""The part of a SPLAT record that must be finite."""


def check_content(content: Content) -> int:
    """Check that the content has the declared number of splats, or whole records; return where the last one ends.

    Raises:
        FileCorruptedError: splats are missing, a SPLAT record is not finite, or the content cannot be unpacked.
        DecoderLimitError: the content unpacks to more than MAX_UNPACKED bytes.
    """
    return _check_packed(content) if content[: len(GZIP)] == GZIP else _check_records(content)


def _check_packed(content: Content) -> int:
    unpacker = zlib.decompressobj(31)
    head, size, at = b"", 0, 0
    try:
        while not unpacker.eof and (at < len(content) or unpacker.unconsumed_tail):
            packed = unpacker.unconsumed_tail or content[at : at + PIECE_BYTES]
            at += 0 if unpacker.unconsumed_tail else len(packed)
            piece = unpacker.decompress(packed, PIECE_BYTES)
            head, size = head or piece, size + len(piece)
            if size > MAX_UNPACKED:
                raise DecoderLimitError(f"the splats unpack to more than {MAX_UNPACKED >> 20} MiB")
    except zlib.error as error:
        raise FileCorruptedError(f"the splats cannot be unpacked: {error}") from None
    if not unpacker.eof:
        raise FileCorruptedError("the packed splats are not complete")
    _check_header(head[: HEADER.size], size)
    return at - len(unpacker.unused_data)


def _check_header(head: bytes, size: int) -> None:
    if len(head) < HEADER.size:
        raise FileCorruptedError("the splats have no header")
    magic, version, splats, degree, *_ = HEADER.unpack(head)
    if magic != SPZ_MAGIC or version not in POSITION_BYTES or degree >= len(HARMONICS) or splats == 0:
        raise FileCorruptedError(f"the splats' header is not valid (version {version}, degree {degree})")
    each = POSITION_BYTES[version] + ROTATION_BYTES[version] + OTHER_BYTES + HARMONICS[degree]
    if size != HEADER.size + each * splats:
        raise FileCorruptedError(f"{splats:,} splats have {size:,} bytes, not {HEADER.size + each * splats:,}")


def _check_records(content: Content) -> int:
    if len(content) % SPLAT.size:
        raise FileCorruptedError(f"the file ends in the middle of a splat, at {len(content):,} bytes")
    if not math.isfinite(sum(map(sum, POSITION_AND_SCALE.iter_unpack(content)))):
        raise FileCorruptedError("a splat is not finite")
    return len(content)
