"""JPEG: segments, and coded data up to the next marker (ITU-T T.81, annex B).

A file of several pictures (CIPA DC-007, "MPF") lists them in the first one. HDR photographs store their gain maps in
this way.
"""

import re
from collections.abc import Iterator
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content, Part, tiff

START_OF_IMAGE: Final = b"\xff\xd8"
END_OF_IMAGE, START_OF_SCAN, APP2 = b"\xd9", b"\xda", b"\xe2"
FILL: Final = 0xFF
"""The first byte of every marker; writers may repeat it."""
MPF: Final = b"MPF\0"
PICTURE_LIST: Final = 0xB002
"""The MPF tag that lists the pictures, 16 bytes each."""
WITHOUT_LENGTH: Final = frozenset(bytes([marker]) for marker in (0x01, *range(0xD0, 0xD8)))
"""Markers that are not followed by a length."""
NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""A marker after coded data, in which 0xFF is followed by zero or by the number of a restart marker. Searching for one
0xFF instead of a run of them is several times as fast."""


def check_content(content: Content) -> int:
    """Check every segment; return the end of the end-of-image marker, or of the last picture in the list.

    Raises:
        FileCorruptedError: a segment is damaged, or the file is incomplete.
        IndexError: it ends in the middle of a segment header.
    """
    end = last_picture = 0
    for segment in segments(content):
        end = segment.end
        if segment.kind == APP2 and content[segment.body : segment.body + len(MPF)] == MPF:
            last_picture = _end_of_last_picture(content, segment.body + len(MPF))
    return max(end, last_picture)


def segments(content: Content) -> Iterator[Part]:
    """Yield the segments up to the end-of-image marker; `kind` is the second byte of the marker.

    Coded data lies between the end of one segment and the start of the next.

    Raises:
        FileCorruptedError: the file does not begin as JPEG, has no marker where one must be, or has no end.
        IndexError: it ends in the middle of a segment header.
    """
    if content[: len(START_OF_IMAGE)] != START_OF_IMAGE:
        raise FileCorruptedError("the image does not begin as a JPEG")
    at, kind = len(START_OF_IMAGE), b""
    while kind != END_OF_IMAGE:
        if content[at] != FILL:
            raise FileCorruptedError(f"the image has no marker at {at:,}, where one must be")
        while content[at] == FILL:
            at += 1
        kind, start, body = bytes(content[at : at + 1]), at - 1, at + 1
        if kind == END_OF_IMAGE or kind in WITHOUT_LENGTH:
            end = body
        else:
            end = body + (content[body] << 8 | content[body + 1])
            body += 2
        yield Part(kind, start, body, end, end)
        at = _next_marker(content, end) if kind == START_OF_SCAN else end


def _next_marker(content: Content, at: int) -> int:
    """Return the offset of the next marker after coded data."""
    marker = NEXT_MARKER.search(content, at)
    if marker is None:
        raise FileCorruptedError("the image has no end: it is not complete")
    return marker.start()


def _end_of_last_picture(content: Content, start: int) -> int:
    """Return where the last picture of an MPF list ends; its offsets count from `start`."""
    layout = tiff.Layout(">" if content[start : start + 2] == b"MM" else "<")
    last = 0
    (directory,) = layout.read(content, start + 4, "I")
    for entry in tiff.entries(content, start + directory, layout):
        if entry.tag != PICTURE_LIST:
            continue
        (pictures,) = layout.read(content, entry.value, "I")
        for picture in range(start + pictures, start + pictures + entry.number, 16):
            size, offset = layout.read(content, picture + 4, "II")
            last = max(last, start + offset + size if offset else 0)
    if last > len(content):
        raise FileCorruptedError(f"the image's pictures need {last:,} bytes, and there are {len(content):,}")
    return last
