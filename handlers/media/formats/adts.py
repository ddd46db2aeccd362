"""AAC in ADTS: frames whose headers give their sizes (ISO/IEC 13818-7, 6.2)."""

from typing import Final

from handlers.media.formats import Content
from handlers.media.formats.audio_frames import check_tail, walk_frames

HEADER_BYTES: Final = 7
SAMPLE_RATES: Final = 13
"""Valid values of the sample rate index."""


def check_content(content: Content) -> int:
    """Check every frame and return where the last one, or a tag after it, ends; only padding may follow.

    Raises:
        FileCorruptedError: a frame is damaged or incomplete, or there is none.
    """
    _, _, end = walk_frames(content, frame_size)
    check_tail(content, end)
    return end


def frame_size(header: bytes) -> int | None:
    """Return the size of a frame in bytes, or None if this is not a frame header."""
    if len(header) < HEADER_BYTES or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:  # noqa: PLR2004 - the sync word
        return None
    if header[2] >> 2 & 15 >= SAMPLE_RATES:
        return None
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > HEADER_BYTES else None
