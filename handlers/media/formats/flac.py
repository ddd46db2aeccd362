"""FLAC: metadata blocks, then frames with two checksums each, up to the end of the file (RFC 9639, 8 and 9)."""

import functools
import re
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.formats.audio_frames import ID3V1_BYTES, skip_id3
from handlers.media.formats.crc16 import CRC16_START, continue_crc16

STREAM_INFO: Final = (0, 34)
"""Type and length of the first block."""
COMMENTS: Final = 4
SYNC: Final = re.compile(rb"\xff[\xf8\xf9]")
MIN_HEADER_BYTES, MAX_HEADER_BYTES = 6, 16
BLOCK_SIZES: Final = (0, 192, 576, 1152, 2304, 4608, 0, 0, *(256 << power for power in range(8)))
"""Samples per frame, by four bits of the header (9.1.1). For 6 and 7 the number follows in one or two bytes."""
SAMPLE_RATE_BYTES: Final = {12: 1, 13: 2, 14: 2}
"""Bytes of the sample rate after the header, by its four bits (9.1.2)."""
POLYNOMIAL_8: Final = 0x107


def check_content(content: Content) -> int:
    """Check every frame; return the end of the file, or where an ID3v1 tag begins.

    Raises:
        FileCorruptedError: a frame is damaged or missing, or other bytes follow. Frames declare no length, so such
            bytes cannot be distinguished from a damaged last frame.
    """
    at, declared = _read_metadata(content)
    tag = len(content) - ID3V1_BYTES
    end = tag if tag > at and content[tag : tag + 3] == b"TAG" else len(content)
    samples = 0
    while at < end:
        block = _block_size(content[at : at + MAX_HEADER_BYTES])
        if block is None:
            raise FileCorruptedError(f"the file has no frame at {at:,}, where one must be")
        samples += block
        at = _check_frame(content, at, end)
    if samples != (declared or samples) or samples == 0:
        raise FileCorruptedError(f"the file declares {declared:,} samples and has {samples:,}")
    return end


def _read_metadata(content: Content) -> tuple[int, int]:
    """Return where the first frame begins, and how many samples the file declares (0: unknown)."""
    at = skip_id3(content)
    if content[at : at + 4] != b"fLaC":
        raise FileCorruptedError("the file does not begin as FLAC")
    at += 4
    if (content[at] & 0x7F, int.from_bytes(content[at + 1 : at + 4], "big")) != STREAM_INFO:
        raise FileCorruptedError("the file does not begin with a STREAMINFO block")
    samples = int.from_bytes(content[at + 17 : at + 22], "big") & (1 << 36) - 1
    is_last = False
    while not is_last:
        is_last, kind, start = bool(content[at] & 0x80), content[at] & 0x7F, at + 4
        at = start + int.from_bytes(content[at + 1 : start], "big")
        if kind == COMMENTS:
            _check_comments(content[start:at])
    return at, samples


def _check_comments(block: bytes) -> None:
    """Check that the comments fill their block (RFC 9639, 8.6); libFLAC does not play a file otherwise."""
    at = 4 + int.from_bytes(block[:4], "little")
    comments = int.from_bytes(block[at : at + 4], "little")
    at += 4
    for _ in range(comments):
        at += 4 + int.from_bytes(block[at : at + 4], "little")
        if at > len(block):
            break
    if at != len(block):
        raise FileCorruptedError("the file's comments do not fill their block")


def _block_size(header: bytes) -> int | None:
    """Return the number of samples of a frame; None if this is not a frame header, or its checksum is wrong."""
    if len(header) < MIN_HEADER_BYTES or SYNC.match(header) is None:
        return None
    size, rate = header[2] >> 4, header[2] & 15
    number_bytes = max(1, 8 - (header[4] ^ 0xFF).bit_length())  # the frame number is coded like UTF-8
    at = 4 + number_bytes
    size_bytes = {6: 1, 7: 2}.get(size, 0)
    block = int.from_bytes(header[at : at + size_bytes], "big") + 1 if size_bytes else BLOCK_SIZES[size]
    at += size_bytes + SAMPLE_RATE_BYTES.get(rate, 0)
    return block if at < len(header) and block and _has_valid_crc8(header[: at + 1]) else None


def _check_frame(content: Content, start: int, last: int) -> int:
    """Return where a frame ends: at the first header after it before which its checksum is zero, or at `last`.

    Raises:
        FileCorruptedError: its checksum is zero at none of them.
    """
    crc, at = CRC16_START, start
    for sync in SYNC.finditer(content, start + 2, last):
        if _block_size(content[sync.start() : sync.start() + MAX_HEADER_BYTES]) is None:
            continue
        crc = continue_crc16(crc, content[at : sync.start()])
        at = sync.start()
        if crc == CRC16_START:
            return at
    if continue_crc16(crc, content[at:last]) != CRC16_START:
        raise FileCorruptedError(f"the frame at {start:,} is damaged, or other bytes follow it")
    return last


def _has_valid_crc8(header: bytes) -> bool:
    crc = 0
    for byte in header:
        crc = _table_8()[crc ^ byte]
    return crc == 0


@functools.cache
def _table_8() -> list[int]:
    return [_remainder(byte << 8) for byte in range(256)]


def _remainder(value: int) -> int:
    for bit in range(15, 7, -1):
        if value >> bit & 1:
            value ^= POLYNOMIAL_8 << bit - 8
    return value
