"""RIFF, which WebP and WAV are laid out in: chunks in one chunk that tells its length."""

import struct
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

HEAD: Final = 12
CHUNK_HEAD: Final = 8
FRAME_HEAD: Final = 16  # of a WebP animation, before the chunks of its frame
PCM: Final = 1
FORMAT: Final = struct.Struct("<HHIIHH")
UNTOLD: Final = 0x7FFF_0000
"""From here on, and zero: the length a writer left that could not go back, as text-to-speech services stream WAV."""


def end(content: Content) -> int:
    """Return where the outer chunk ends; where a WAV does not tell, its sound goes to the end of the file."""
    if len(content) < HEAD or content[:4] != b"RIFF" or content[8:12] not in {b"WEBP", b"WAVE"}:
        raise FileCorruptedError("the file does not begin as RIFF")
    is_sound = content[8:12] == b"WAVE"
    length = int.from_bytes(content[4:8], "little")
    is_told = not is_sound or 0 < length < UNTOLD
    whole = CHUNK_HEAD + length if is_told else len(content)
    if whole > len(content):
        raise FileCorruptedError(f"the file declares {whole:,} bytes and has {len(content):,}")
    last = _walk(content, HEAD, whole, may_be_untold=is_sound)
    return min(max(last, whole), len(content))


def _walk(content: Content, at: int, whole: int, *, may_be_untold: bool = False) -> int:
    """Check that every chunk ends within the outer one, and return where the last one does, its filler included."""
    while at + CHUNK_HEAD <= whole:
        kind, length = bytes(content[at : at + 4]), int.from_bytes(content[at + 4 : at + 8], "little")
        if not (kind.isascii() and kind.decode("ascii").isprintable()):
            raise FileCorruptedError(f"the file has no chunk at {at:,}, where one must stand")
        if may_be_untold and kind == b"data" and (length == 0 or length >= UNTOLD):
            return whole
        start = at + CHUNK_HEAD
        at = start + length
        if at > whole:
            raise FileCorruptedError(f"the file's {kind!r} chunk goes beyond its end")
        if kind == b"fmt ":
            _check_format(content[start:at])
        if kind == b"ANMF" and _walk(content, start + FRAME_HEAD, at) != at:
            raise FileCorruptedError(f"the animation's frame at {start:,} is not filled by its chunks")
        at += length & 1
    return at


def _check_format(content: bytes) -> None:
    """Check that plain samples are as long as a block of them says."""
    if len(content) < FORMAT.size:
        raise FileCorruptedError("the file does not say what its sound is")
    kind, channels, rate, _, block, bits = FORMAT.unpack(content[: FORMAT.size])
    if kind == PCM and (rate == 0 or channels == 0 or block != channels * ((bits + 7) // 8)):
        raise FileCorruptedError(f"the file's samples of {bits} bits in {channels} channels do not fill {block} bytes")
