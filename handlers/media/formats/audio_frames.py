"""Audio that consists of frames between tags: the code that MP3 and AAC (ADTS) share."""

import re
from collections.abc import Callable
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

ID3_HEADER_BYTES: Final = 10
ID3: Final = re.compile(rb"ID3[\x02-\x04].[\x00-\xff]([\0-\x7f]{4})", re.DOTALL)
"""Version 2 to 4, flags, and a size of seven bits per byte (ID3v2.4, 3.1)."""
ID3V1_BYTES: Final = 128
APE_HEADER_BYTES: Final = 32
PADDING: Final = re.compile(rb"\0*+|\xff*+")
FRAME_HEADER_BYTES: Final = 8

FrameSize = Callable[[bytes], int | None]
"""Takes FRAME_HEADER_BYTES and returns the size of that frame in bytes; None if they are not a frame header."""


def skip_id3(content: Content, at: int = 0) -> int:
    """Return where the ID3v2 tags that begin at an offset end."""
    while (tag := ID3.match(content, at)) is not None:
        size = 0
        for byte in tag[1]:
            size = size << 7 | byte
        has_footer = content[at + 5] & 0x10
        at += ID3_HEADER_BYTES + size + (ID3_HEADER_BYTES if has_footer else 0)
    return at


def walk_frames(content: Content, frame_size: FrameSize) -> tuple[int, int, int]:
    """Return the offset of the first frame, the number of frames, and where the last frame or a tag after it ends.

    Raises:
        FileCorruptedError: there is no frame, or the last one is incomplete.
    """
    first = at = skip_id3(content)
    frames = 0
    while at < len(content):
        size = frame_size(content[at : at + FRAME_HEADER_BYTES])
        if size is None:
            tag_end = _skip_tag(content, at)
            if tag_end is None:
                break
            at = tag_end
            continue
        if at + size > len(content):
            raise FileCorruptedError(f"the last frame lacks {at + size - len(content):,} bytes")
        at += size
        frames += 1
    if frames == 0:
        raise FileCorruptedError("the file has no audio frame")
    return first, frames, at


def _skip_tag(content: Content, at: int) -> int | None:
    """Return where the tag at an offset ends; None if there is none. Tags are at the end, or between joined files."""
    if ID3.match(content, at):
        return min(skip_id3(content, at), len(content))
    if content[at : at + 3] == b"TAG" and at + ID3V1_BYTES <= len(content):
        return at + ID3V1_BYTES
    if content[at : at + 8] == b"APETAGEX":
        return min(at + APE_HEADER_BYTES + int.from_bytes(content[at + 12 : at + 16], "little"), len(content))
    return None


def check_tail(content: Content, at: int) -> None:
    """Check that only padding follows the last frame of a file without a frame count.

    Raises:
        FileCorruptedError: other bytes follow; they may be damaged frames.
    """
    if PADDING.fullmatch(content, at) is None:
        raise FileCorruptedError(f"there is no frame at {at:,}, where one must be")
