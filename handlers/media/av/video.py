"""Video: decoded completely, stored as it is. Runs in a codec process."""

from pathlib import Path
from typing import Final

from handlers.errors import DecoderLimitError
from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.av import audio
from handlers.media.av.decode import decode_all, duration_seconds, first_stream, open_container
from handlers.media.av.display import pixel_aspect, shown_size, swaps_sides
from handlers.media.formats import cut_tail

WITHOUT_VIDEO: Final = {
    "video/mp4": "audio/mp4",
    "video/webm": "audio/webm",
    "video/x-matroska": "audio/x-matroska",
    "video/quicktime": "audio/quicktime",
    "video/3gpp": "audio/3gpp",
}
"""The content types of containers without a video stream, by the types as which they are detected."""


def prepare(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Decoded:
    """Validate a video. A container with nothing but audio is prepared as audio.

    Raises:
        FileCorruptedError: it is incomplete or does not decode completely.
        FileTypeNotSupportedError: it has no video stream, or the codec of a stream is not known.
        DecoderLimitError: a frame has more pixels than `limits` allow, or there are too many streams.
    """
    path = cut_tail(source, target, content_type)
    with open_container(path, content_type, limits) as container:
        if content_type in WITHOUT_VIDEO and not container.streams.video and container.streams.audio:
            return audio.prepare(source, target, WITHOUT_VIDEO[content_type], options, limits)
        stream = first_stream(container.streams.video, "video")
        width, height = stream.width, stream.height
        if width * height > limits.max_pixels:
            raise DecoderLimitError(f"a frame has {width}x{height} pixels; MAX_IMAGE_PIXELS is {limits.max_pixels:,}")
        decoded = decode_all(container, stream)
        width, height = shown_size(width, height, pixel_aspect(stream))
        is_rotated = swaps_sides(decoded.rotation)
        return Decoded(
            path=path,
            content_type=content_type,
            width=height if is_rotated else width,
            height=width if is_rotated else height,
            duration=duration_seconds(container, decoded),
            frames=decoded.packets,
        )
