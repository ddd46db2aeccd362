"""MP3 (and MP2): frames whose headers give their sizes (ISO/IEC 11172-3, 2.4.2.3; 13818-3)."""

from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.formats.audio_frames import check_tail, walk_frames

HEADER_BYTES: Final = 4
SYNC: Final = 0x7FF
VERSION_1, LAYER_2, LAYER_3 = 3, 2, 1
SAMPLE_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
LOW_BIT_RATES: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
BIT_RATES: Final = {
    (True, LAYER_3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, LAYER_2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, LAYER_3): LOW_BIT_RATES,
    (False, LAYER_2): LOW_BIT_RATES,
}
"""Bit rates in kbit/s, by whether the version is MPEG-1, and by layer."""


def check_content(content: Content) -> int:
    """Check every frame and return where the last one, or a tag after it, ends.

    If the first frame declares a number of frames, there must be at least as many. If not, only padding may follow.

    Raises:
        FileCorruptedError: a frame is damaged or missing.
    """
    first, frames, end = walk_frames(content, frame_size)
    declared = _declared_frames(content[first : first + 512])
    if frames < declared:  # some encoders count the first frame, too
        raise FileCorruptedError(f"the file declares {declared:,} frames and has {frames:,}")
    if declared == 0:
        check_tail(content, end)
    return end


def frame_size(content: bytes) -> int | None:
    """Return the size of a frame in bytes, or None if this is not a frame header."""
    if len(content) < HEADER_BYTES:
        return None
    header = int.from_bytes(content[:HEADER_BYTES], "big")
    sync, version, layer = header >> 21, header >> 19 & 3, header >> 17 & 3
    bitrate, rate, padding = header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
    is_reserved = version == 1 or bitrate in {0, 15} or rate == 3  # noqa: PLR2004 - the standard's values
    if sync != SYNC or is_reserved or layer not in {LAYER_2, LAYER_3}:
        return None
    is_mpeg_1 = version == VERSION_1
    slots = 144 if is_mpeg_1 or layer == LAYER_2 else 72
    return slots * BIT_RATES[is_mpeg_1, layer][bitrate - 1] * 1000 // SAMPLE_RATES[version][rate] + padding


def _declared_frames(frame: bytes) -> int:
    """Return how many frames follow the frame with the Xing header; 0: unknown (LAME's specification)."""
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    has_count = at > 0 and frame[at + 7 : at + 8] and frame[at + 7] & 1
    return int.from_bytes(frame[at + 8 : at + 12], "big") if has_count else 0
