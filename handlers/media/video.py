"""Video: read to the end, decoded at both ends, stored as it is. Runs in a codec process."""

from pathlib import Path

import av

from handlers.errors import DecoderLimitError
from handlers.media import Limits, Prepared
from handlers.media.audio import prepare as prepare_sound
from handlers.media.boxes import check_boxes
from handlers.media.describe import describe
from handlers.media.packets import decode_at, only, open_container, read_packets, seconds
from schemas.jobs import Profile

QUARTER_TURN = 90


def prepare(source: Path, target: Path, content_type: str, profile: Profile, limits: Limits) -> Prepared:
    """Validate a video; an MP4 that holds nothing but sound is sound.

    Raises:
        FileCorruptedError: it is cut short or does not decode.
        FileTypeNotSupportedError: it has no picture.
        DecoderLimitError: a frame has more pixels than `limits` allow.
    """
    if content_type in {"video/mp4", "video/quicktime"}:
        check_boxes(source, needed=b"moov")
    with open_container(source, content_type) as container:
        if content_type == "video/mp4" and not container.streams.video and container.streams.audio:
            return prepare_sound(source, target, "audio/mp4", profile, limits)
        stream = only(container.streams.video, "video")
        width, height = stream.width, stream.height
        if width * height > limits.max_pixels:
            raise DecoderLimitError(f"a frame has {width}x{height} pixels; MAX_IMAGE_PIXELS is {limits.max_pixels:,}")
        track = read_packets(container, stream)
        frame = decode_at(container, stream, track.first_key)
        decode_at(container, stream, track.last_key)
        is_turned = isinstance(frame, av.VideoFrame) and frame.rotation % (2 * QUARTER_TURN) == QUARTER_TURN
        return describe(
            source,
            content_type,
            width=height if is_turned else width,
            height=width if is_turned else height,
            duration=seconds(container),
            frames=track.packets,
        )
