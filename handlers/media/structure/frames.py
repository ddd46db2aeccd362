"""Sound that is nothing but frames, one after the other, between tags: what MP3 and ADTS have in common."""

import re
from collections.abc import Callable
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

ID3_HEAD: Final = 10
ID3: Final = re.compile(rb"ID3[\x02-\x04].[\x00-\xff]([\0-\x7f]{4})", re.DOTALL)
"""Version 2 to 4, flags, and a size of seven bits a byte (ID3v2.4, 3.1)."""
ID3V1: Final = 128
PADDING: Final = re.compile(rb"\0*+|\xff*+")
APE_HEAD: Final = 32

FrameSize = Callable[[bytes], int | None]
"""Return the size in bytes of the frame that a header of HEADER bytes begins; None: it is no header."""
HEADER: Final = 8


def after_id3(content: Content, at: int = 0) -> int:
    """Return where the ID3v2 tags that begin here end."""
    while (found := ID3.match(content, at)) is not None:
        size = 0
        for byte in found[1]:
            size = size << 7 | byte
        has_footer = content[at + 5] & 0x10
        at += ID3_HEAD + size + (ID3_HEAD if has_footer else 0)
    return at


def walk(content: Content, frame_size: FrameSize) -> tuple[int, int, int]:
    """Return where the first frame begins, how many there are, and where the last one or a tag after it ends.

    Raises:
        FileCorruptedError: there is no frame, or the last one is cut.
    """
    first = at = after_id3(content)
    frames = 0
    while at < len(content):
        size = frame_size(content[at : at + HEADER])
        if size is None:
            tag = _after_tag(content, at)
            if tag is None:
                break
            at = tag
            continue
        if at + size > len(content):
            raise FileCorruptedError(f"the last frame lacks {at + size - len(content):,} bytes")
        at += size
        frames += 1
    if frames == 0:
        raise FileCorruptedError("the file has no frame of sound")
    return first, frames, at


def _after_tag(content: Content, at: int) -> int | None:
    """Return where the tag at this place ends; None: there is none. They stand at the end, or between joined files."""
    if ID3.match(content, at):
        return min(after_id3(content, at), len(content))
    if content[at : at + 3] == b"TAG" and at + ID3V1 <= len(content):
        return at + ID3V1
    if content[at : at + 8] == b"APETAGEX":
        return min(at + APE_HEAD + int.from_bytes(content[at + 12 : at + 16], "little"), len(content))
    return None


def check_tail(content: Content, at: int) -> None:
    """Refuse what is no padding behind the last frame, where none tells that it is the last: it may be sound destroyed.

    Raises:
        FileCorruptedError: there is such a tail.
    """
    if PADDING.fullmatch(content, at) is None:
        raise FileCorruptedError(f"there is no frame at {at:,}, where one must stand")
