"""Audio that consists of frames between tags: the code that MP3 and AAC (ADTS) share."""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from handlers.errors import FileCorruptedError
from handlers.media.formats import ZEROS, Content

ID3_HEADER_BYTES: Final = 10
ID3: Final = re.compile(rb"ID3[\x02-\x04].[\x00-\xff]([\0-\x7f]{4})", re.DOTALL)
"""The header of a tag: version 2.2 to 2.4, flags, and a size of seven bits per byte (ID3v2.4, 3.1)."""
ID3V1_BYTES: Final = 128
APE_HEADER_BYTES: Final = 32
PADDING: Final = re.compile(rb"\0*+|\xff*+")
FRAME_HEADER_BYTES: Final = 8

FrameSize = Callable[[bytes], int | None]
"""Takes FRAME_HEADER_BYTES and returns the size of that frame in bytes; None if they are not a frame header."""


class Run(NamedTuple):
    """Frames without anything in between: the offsets of the first one and of the end, and their number."""

    start: int
    end: int
    frames: int


def skip_id3(content: Content, at: int = 0) -> int:
    """Return where the ID3v2 tags that begin at an offset end; the offset itself if there are none."""
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
    first, frames, end = -1, 0, 0
    for run in frame_runs(content, frame_size):
        first = run.start if first < 0 else first
        frames, end = frames + run.frames, run.end
    if frames == 0:
        raise FileCorruptedError("the file has no audio frame")
    return first, frames, end


def frame_runs(content: Content, frame_size: FrameSize) -> Iterator[Run]:
    """Yield the runs of frames between tags; then an empty run at the end of the last frame or of a tag after it.

    Zeros before the first frame are skipped: programs that cut a stream leave them.

    Raises:
        FileCorruptedError: the last frame is incomplete.
    """
    at = _skip_zeros(content, skip_id3(content))
    start, frames = at, 0
    while at < len(content):
        size = frame_size(content[at : at + FRAME_HEADER_BYTES])
        if size is None:
            tag_end = _skip_tag(content, at)
            if tag_end is None:
                break
            if frames:
                yield Run(start, at, frames)
            at = start = tag_end
            frames = 0
            continue
        if at + size > len(content):
            raise FileCorruptedError(f"the last frame lacks {at + size - len(content):,} bytes")
        at += size
        frames += 1
    if frames:
        yield Run(start, at, frames)
    yield Run(at, at, 0)


def _skip_zeros(content: Content, at: int) -> int:
    zeros = ZEROS.match(content, at)
    return zeros.end() if zeros else at


def _skip_tag(content: Content, at: int) -> int | None:
    """Return where the tag at an offset ends; None if there is none. Tags are at the end, or between joined files.

    Zeros before the ID3 tag of the next file count as a tag of their own.
    """
    if content[at] == 0:
        at = _skip_zeros(content, at)
        return at if ID3.match(content, at) else None
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
