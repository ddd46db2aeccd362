"""JPEG: segments, then coded data up to the next marker (ITU-T T.81, annex B).

A file of several pictures (CIPA DC-007, "MPF") says so in the first one; that is how gain maps of HDR photographs come.
"""

import re
import struct
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

START: Final = b"\xff\xd8"
END_OF_IMAGE: Final = 0xD9
START_OF_SCAN: Final = 0xDA
APP2: Final = 0xE2
MPF: Final = b"MPF\0"
PICTURES: Final = 0xB002
ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that no length follows."""
NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""In coded data, where 0xFF is followed by zero, and restart markers stand between. To look for a run of 0xFF would
take several times as long as for one."""


def end(content: Content) -> int:
    """Return where the image ends: after its end-of-image marker, or after the last of the pictures it lists."""
    if content[:2] != START:
        raise FileCorruptedError("the image does not begin as a JPEG")
    at, listed = len(START), 0
    while True:
        if content[at] != 0xFF:  # noqa: PLR2004 - every marker begins so
            raise FileCorruptedError(f"the image has no marker at {at:,}, where one must stand")
        while content[at] == 0xFF:  # noqa: PLR2004 - as many as the writer liked
            at += 1
        marker = content[at]
        at += 1
        if marker == END_OF_IMAGE:
            return max(at, listed)
        if marker in ALONE:
            continue
        if marker == APP2 and content[at + 2 : at + 6] == MPF:
            listed = _listed(content, at + 6)
        at += content[at] << 8 | content[at + 1]
        if marker == START_OF_SCAN:
            following = NEXT_MARKER.search(content, at)
            if following is None:
                raise FileCorruptedError("the image has no end: it is not complete")
            at = following.start()


def _listed(content: Content, start: int) -> int:
    """Return where the last picture of an MPF index ends; its offsets count from `start`."""
    order = ">" if content[start : start + 2] == b"MM" else "<"
    furthest = 0
    try:
        (table,) = struct.unpack(order + "I", content[start + 4 : start + 8])
        (entries,) = struct.unpack(order + "H", content[start + table : start + table + 2])
        for entry in range(start + table + 2, start + table + 2 + 12 * entries, 12):
            tag, _, size, place = struct.unpack(order + "HHII", content[entry : entry + 12])
            for picture in range(start + place, start + place + size, 16) if tag == PICTURES else ():
                length, offset = struct.unpack(order + "II", content[picture + 4 : picture + 12])
                furthest = max(furthest, start + offset + length if offset else 0)
    except struct.error:
        raise FileCorruptedError("the image's list of pictures cannot be read") from None
    if furthest > len(content):
        raise FileCorruptedError(f"the image's pictures need {furthest:,} bytes, and there are {len(content):,}")
    return furthest
