"""FLAC: blocks of metadata, then frames with two checksums each, up to the end of the file (RFC 9639, 8 and 9)."""

import array
import functools
import re
import sys
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content
from handlers.media.structure.frames import ID3V1, after_id3

STREAM_INFO: Final = (0, 34)
"""Kind and length of the first block."""
COMMENTS: Final = 4
SYNC: Final = re.compile(rb"\xff[\xf8\xf9]")
LONGEST_HEADER: Final = 16
BLOCK_SIZES: Final = (0, 192, 576, 1152, 2304, 4608, 0, 0, *(256 << power for power in range(8)))
"""Samples by a header's four bits (9.1.1); 6 and 7: they follow, in one byte or two."""
RATE_BYTES: Final = {12: 1, 13: 2, 14: 2}
POLYNOMIAL_8, POLYNOMIAL_16 = 0x107, 0x18005


def end(content: Content) -> int:
    """Return where the last frame ends, which is the end of the file but for an ID3v1 tag.

    Raises:
        FileCorruptedError: a frame is damaged, missing or followed by something else. Frames tell no length, so that
            what follows the last one cannot be told from it.
    """
    at, total = _after_metadata(content)
    tag = len(content) - ID3V1
    last = tag if tag > at and content[tag : tag + 3] == b"TAG" else len(content)
    samples = 0
    while at < last:
        block = _block_size(content[at : at + LONGEST_HEADER])
        if block is None:
            raise FileCorruptedError(f"the file has no frame at {at:,}, where one must stand")
        samples += block
        at = _frame_end(content, at, last)
    if samples != (total or samples) or samples == 0:
        raise FileCorruptedError(f"the file declares {total:,} samples and has {samples:,}")
    return last


def _after_metadata(content: Content) -> tuple[int, int]:
    """Return where the first frame begins, and how many samples the file declares (0: unknown)."""
    at = after_id3(content)
    if content[at : at + 4] != b"fLaC":
        raise FileCorruptedError("the file does not begin as FLAC")
    at += 4
    if (content[at] & 0x7F, int.from_bytes(content[at + 1 : at + 4], "big")) != STREAM_INFO:
        raise FileCorruptedError("the file does not say what is in it")
    total = int.from_bytes(content[at + 17 : at + 22], "big") & (1 << 36) - 1
    is_last = False
    while not is_last:
        is_last, kind, start = bool(content[at] & 0x80), content[at] & 0x7F, at + 4
        at = start + int.from_bytes(content[at + 1 : start], "big")
        if kind == COMMENTS:
            _check_comments(content[start:at])
    return at, total


def _check_comments(block: bytes) -> None:
    """Check that the block holds as many comments as it says (RFC 9639, 8.6): libFLAC plays no file otherwise."""
    at = 4 + int.from_bytes(block[:4], "little")
    comments = int.from_bytes(block[at : at + 4], "little")
    at += 4
    for _ in range(comments):
        at += 4 + int.from_bytes(block[at : at + 4], "little")
        if at > len(block):
            break
    if at != len(block):
        raise FileCorruptedError("the file's comments do not fill their block")


def _block_size(head: bytes) -> int | None:
    """Return how many samples the frame with this header has; None: it is no header, by its own checksum."""
    if len(head) < 6 or SYNC.match(head) is None:  # noqa: PLR2004 - the shortest header
        return None
    size, rate = head[2] >> 4, head[2] & 15
    number = max(1, 8 - (head[4] ^ 0xFF).bit_length())  # as UTF-8 tells its length
    at = 4 + number
    told = {6: 1, 7: 2}.get(size, 0)
    block = int.from_bytes(head[at : at + told], "big") + 1 if told else BLOCK_SIZES[size]
    at += told + RATE_BYTES.get(rate, 0)
    return block if at < len(head) and block and _checksum(0, head[: at + 1], 8) == 0 else None


def _frame_end(content: Content, start: int, last: int) -> int:
    """Return where the frame ends: before the next header, the checksum over all of it coming to nothing."""
    checksum, at = 0, start
    for sync in SYNC.finditer(content, start + 2, last):
        if _block_size(content[sync.start() : sync.start() + LONGEST_HEADER]) is None:
            continue
        checksum = _checksum(checksum, content[at : sync.start()], 16)
        at = sync.start()
        if checksum == 0:
            return at
    if _checksum(checksum, content[at:last], 16) != 0:
        raise FileCorruptedError(f"the frame at {start:,} is damaged, or something follows it that is none")
    return last


def _checksum(before: int, content: bytes, width: int) -> int:
    """Carry a CRC of 8 or 16 bits on: two bytes at a time, since a lookup is what costs."""
    if width == 8:  # noqa: PLR2004 - bits
        for byte in content:
            before = _table_8()[before ^ byte]
        return before
    table = _table_16()
    words = array.array("H", content[: len(content) & ~1])
    if sys.byteorder == "little":
        words.byteswap()
    for word in words:
        before = table[before ^ word]
    if len(content) & 1:
        before = table[before >> 8 ^ content[-1]] ^ (before << 8 & 0xFF00)
    return before


@functools.cache
def _table_8() -> list[int]:
    return [_remainder(byte << 8, 16, POLYNOMIAL_8, 8) for byte in range(256)]


@functools.cache
def _table_16() -> "array.array[int]":
    return array.array("H", [_remainder(word << 16, 32, POLYNOMIAL_16, 16) for word in range(1 << 16)])


def _remainder(value: int, bits: int, polynomial: int, width: int) -> int:
    for bit in range(bits - 1, width - 1, -1):
        if value >> bit & 1:
            value ^= polynomial << bit - width
    return value
