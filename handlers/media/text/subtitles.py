"""Subtitles: WebVTT (https://www.w3.org/TR/webvtt1/) and SubRip."""

import re
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.text import plain

ARROW: Final = "-->"
TIMING: Final = re.compile(
    r"\s*(?:(\d{1,4}):)?(\d\d):(\d\d)[.,](\d{1,3})\s+-->\s+(?:(\d{1,4}):)?(\d\d):(\d\d)[.,](\d{1,3})(?:\s.*)?"
)


def check_content(content: Content) -> int:
    """Check the times of every cue; return the file size.

    Raises:
        FileCorruptedError: the text is not UTF-8, a line of times is damaged, a cue ends before it begins, or a SubRip
            file has no cue.
    """
    cues = 0
    text = plain.whole(content)
    for number, line in enumerate(text.splitlines(), 1):
        if ARROW in line:
            cues += 1
            timing = TIMING.fullmatch(line)
            if timing is None or _milliseconds(timing, 1) > _milliseconds(timing, 5):
                raise FileCorruptedError(f"line {number:,} of the subtitles has no valid times")
    if not cues and not text.startswith("WEBVTT"):  # WebVTT without cues is valid: nobody speaks
        raise FileCorruptedError("the file has no subtitle")
    return len(content)


def _milliseconds(timing: re.Match[str], first: int) -> int:
    hours, minutes, seconds, rest = (timing[first + at] or "0" for at in range(4))
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(rest.ljust(3, "0"))
