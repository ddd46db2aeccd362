"""Video: decoded whole, stored as it is. Runs in a codec process."""

from pathlib import Path

from handlers.errors import DecoderLimitError
from handlers.media import Limits, Prepared, Recipe
from handlers.media.av.audio import prepare as prepare_sound
from handlers.media.av.decode import decode_all, first, open_container, seconds
from handlers.media.describe import describe
from handlers.media.structure import without_tail

QUARTER_TURN = 90


def prepare(source: Path, target: Path, content_type: str, recipe: Recipe, limits: Limits) -> Prepared:
    """Validate a video; an MP4 that holds nothing but sound is sound.

    Raises:
        FileCorruptedError: it is cut short or does not decode whole.
        FileTypeNotSupportedError: it has no picture.
        DecoderLimitError: a frame has more pixels than `limits` allow.
    """
    whole = without_tail(source, target, content_type)
    with open_container(whole, content_type, limits) as container:
        if content_type == "video/mp4" and not container.streams.video and container.streams.audio:
            return prepare_sound(source, target, "audio/mp4", recipe, limits)
        stream = first(container.streams.video, "video")
        width, height = stream.width, stream.height
        if width * height > limits.max_pixels:
            raise DecoderLimitError(f"a frame has {width}x{height} pixels; MAX_IMAGE_PIXELS is {limits.max_pixels:,}")
        track = decode_all(container, stream)
        is_turned = track.rotation % (2 * QUARTER_TURN) == QUARTER_TURN
        return describe(
            whole,
            content_type,
            width=height if is_turned else width,
            height=width if is_turned else height,
            duration=seconds(container),
            frames=track.packets,
        )
