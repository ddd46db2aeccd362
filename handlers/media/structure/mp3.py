"""MP3 (and MP2): frames whose headers tell their sizes (ISO/IEC 11172-3, 2.4.2.3; 13818-3)."""

from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content
from handlers.media.structure.frames import check_tail, walk

SYNC: Final = 0x7FF
VERSION_1, LAYER_2, LAYER_3 = 3, 2, 1
RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
LOW: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
KILOBITS: Final = {
    (True, LAYER_3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, LAYER_2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, LAYER_3): LOW,
    (False, LAYER_2): LOW,
}
"""By whether it is MPEG-1, and layer."""


def end(content: Content) -> int:
    """Return where the last frame, or a tag after it, ends.

    There must be as many frames as the first one declares; where it does not, only padding may follow the last.
    """
    first, frames, last = walk(content, frame_size)
    declared = _declared(content[first : first + 512])
    if frames < declared:  # some count the first one, too
        raise FileCorruptedError(f"the file declares {declared:,} frames and has {frames:,}")
    if declared == 0:
        check_tail(content, last)
    return last


def frame_size(head: bytes) -> int | None:
    """Return a frame's size in bytes, or None where the header is none."""
    if len(head) < 4:  # noqa: PLR2004 - a header's bytes
        return None
    header = int.from_bytes(head[:4], "big")
    sync, version, layer = header >> 21, header >> 19 & 3, header >> 17 & 3
    bitrate, rate, padding = header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
    is_reserved = version == 1 or bitrate in {0, 15} or rate == 3  # noqa: PLR2004 - so the standard
    if sync != SYNC or is_reserved or layer not in {LAYER_2, LAYER_3}:
        return None
    is_first = version == VERSION_1
    slots = 144 if is_first or layer == LAYER_2 else 72
    return slots * KILOBITS[is_first, layer][bitrate - 1] * 1000 // RATES[version][rate] + padding


def _declared(frame: bytes) -> int:
    """Return how many frames follow the one that Xing's header fills; 0: it does not tell (LAME's specification)."""
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    has_count = at > 0 and frame[at + 7 : at + 8] and frame[at + 7] & 1
    return int.from_bytes(frame[at + 8 : at + 12], "big") if has_count else 0
