"""AAC in ADTS: frames whose headers tell their sizes (ISO/IEC 13818-7, 6.2)."""

from typing import Final

from handlers.media.structure import Content
from handlers.media.structure.frames import check_tail, walk

HEAD: Final = 7
RATES: Final = 13


def end(content: Content) -> int:
    """Return where the last frame, or a tag after it, ends; only padding may follow."""
    _, _, last = walk(content, frame_size)
    check_tail(content, last)
    return last


def frame_size(head: bytes) -> int | None:
    """Return a frame's size in bytes, or None where the header is none."""
    if len(head) < HEAD or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or (head[2] >> 2 & 15) >= RATES:  # noqa: PLR2004 - the sync word
        return None
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size > HEAD else None
