"""The poster of a video: its first frame that shows something, as a picture. Runs in a codec process.

The video has been decoded completely before, and is stored whatever happens here.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

import av
import pyvips
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from handlers.media import Decoded, EncodeOptions, Limits, Poster
from handlers.media.av.decode import first_stream, open_container
from handlers.media.av.display import pixel_aspect
from handlers.media.av.frame_picture import UNSPECIFIED, picture_of, small_rgba
from handlers.media.image.placeholder import placeholder_in_memory
from handlers.media.image.variants import with_variants

SECONDS: Final = 2
MAX_FRAMES: Final = 300
MAX_PIXELS: Final = 1_500_000_000
"""How far `first_shown` searches for a frame that is neither black nor blank: in seconds, in frames, and in pixels of
all these frames together, which are two seconds of 4K at 90 frames a second."""
SMALL_SIDE: Final = 64
"""Longest side in pixels to which a frame is scaled to see whether it is blank, and to make the placeholder."""
DARK, LEAST_LIGHT = 26, 0.02
"""A frame is black if less than LEAST_LIGHT, a share of its pixels, is brighter than DARK, a tenth of white. FFmpeg's
blackdetect uses the same numbers."""
LEAST_CONTRAST: Final = 3.0
"""Standard deviation of the brightness, 0 to 255: a single colour with the noise of an encoder has less."""
GREY: Final = [128, 128, 128]
ALPHA_DECODERS: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""The decoders that read transparency, by codec. FFmpeg's own decoders of these codecs ignore it."""


def make(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Poster:
    """Make the placeholder and the variants of a video, which are written beside `target`.

    Raises:
        FileTypeNotSupportedError: it has no video stream.
    """
    with open_container(source, content_type, limits) as container:
        stream = first_stream(container.streams.video, "video")
        frame = first_shown(frames_of(container, stream))
        aspect = pixel_aspect(stream)
    image = picture_of(frame, aspect, None if options.variants else SMALL_SIDE)
    if not options.variants:
        return Poster(thumbhash=placeholder_in_memory(image, None))
    picture = Decoded(path=source, content_type=content_type, width=image.width, height=image.height)
    made = with_variants(picture, image, None, target, options)
    return Poster(thumbhash=made.thumbhash, variants=made.variants)


def frames_of(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Decode the frames of a stream, with their transparency if there is a decoder for it."""
    decoder = _alpha_decoder(stream)
    for packet in container.demux(stream):
        if decoder is None:
            yield from packet.decode()
            continue
        for frame in decoder.decode(packet if packet.size else None):
            if frame.colorspace == UNSPECIFIED:  # the container may name it, which only the stream's own decoder knows
                frame.colorspace = stream.codec_context.colorspace
            yield frame


def _alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """Return a decoder that reads transparency, if the stream is VP8 or VP9 and declares that it has any; else None."""
    name = ALPHA_DECODERS.get(stream.codec_context.name)
    tags = {tag.lower(): value for tag, value in stream.metadata.items()}
    if name is None or tags.get("alpha_mode") != "1" or name not in av.codecs_available:
        return None
    decoder = cast("VideoCodecContext", CodecContext.create(name, "r"))
    decoder.thread_count = 1
    return decoder


def first_shown(frames: Iterator[av.VideoFrame]) -> av.VideoFrame:
    """Return the first frame that is neither black nor blank, or else the one with the most contrast.

    At most SECONDS, MAX_FRAMES and MAX_PIXELS are searched.

    Raises:
        ValueError: there is no frame.
    """
    best, best_contrast, start, pixels = None, -1.0, Fraction(0), 0
    for number, frame in enumerate(frames):
        at = Fraction(frame.pts or 0) * (frame.time_base or 0)
        start = at if best is None else start
        if best is not None and (at - start > SECONDS or number >= MAX_FRAMES or pixels >= MAX_PIXELS):
            break
        pixels += frame.width * frame.height
        contrast = _contrast(small_rgba(frame, SMALL_SIDE))
        if contrast >= LEAST_CONTRAST:
            return frame
        if contrast > best_contrast:
            best, best_contrast = frame, contrast
    if best is None:
        raise ValueError("the video has no frame")
    return best


def _contrast(image: pyvips.Image) -> float:
    """Return the standard deviation of the brightness, 0 to 255; less than LEAST_CONTRAST if almost all is black."""
    light = image.copy(interpretation="srgb").flatten(background=GREY).colourspace("b-w").copy_memory()
    contrast = float(light.deviate())
    is_black = (light > DARK).avg() < LEAST_LIGHT * 255  # libvips says 255 for true
    return min(contrast, LEAST_CONTRAST * contrast / 255) if is_black else contrast
