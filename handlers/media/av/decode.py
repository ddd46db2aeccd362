"""Opening a container of video or audio, and decoding all its streams. Runs in a codec process.

FFmpeg is given the format, so that a playlist with another name cannot make it open other files, and it reports damage
as an error instead of concealing it, which is its default.

All packets are decoded, since only that finds damage in the middle. On one core this takes 0.03 s for 2.5 s of 480p and
0.9 s for 10 s of 1080p (H.264): 600 to 1,000 million pixels a second. After MAX_DECODED_PIXELS only key frames are
decoded.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from handlers.errors import DecoderLimitError, FileCorruptedError, FileTypeNotSupportedError
from handlers.media import BY_CONTENT_TYPE, Limits

STRICT: Final = "crccheck+bitstream+buffer+explode"
"""FFmpeg's `err_detect`: compare checksums, and fail instead of concealing damage."""
MAX_STREAMS: Final = 32
"""Each stream has a decoder of its own. No file that is meant to be played has more streams."""
MAX_DECODED_PIXELS: Final = 15_000_000_000
"""About a minute of 4K, or four of 1080p: 25 s on one core."""
TOLERANCE: Final = 0.05
"""Share of the declared duration that may be missing at the end: streams differ in length, some writers round up."""
TOLERANCE_SECONDS: Final = 0.5
MAX_SECONDS: Final = 10**9
"""A longer duration is a damaged or invented number."""
PLAYED: Final = frozenset({"video", "audio"})
S = TypeVar("S", bound=Stream)
AnyPacket: TypeAlias = "Packet[Stream]"


@dataclass(slots=True)
class DecodedStream:
    """The result of decoding one stream. Size in pixels and rotation in degrees are those of its first frame.

    `seconds` is the duration of the samples of audio, or the time until the end of the last packet of a video.
    """

    packets: int = 0
    frames: int = 0
    seconds: float = 0.0
    size: tuple[int, int] = (0, 0)
    rotation: int = 0


def open_container(source: Path, content_type: str, limits: Limits) -> InputContainer:
    """Open the container by its detected type; no other file is read, even if it refers to one.

    Raises:
        DecoderLimitError: it has more than MAX_STREAMS, or opening it takes too much memory.
    """
    try:
        container = av.open(
            str(source),
            format=BY_CONTENT_TYPE[content_type].reader,
            options={"protocol_whitelist": "file", "err_detect": STRICT, "max_streams": str(MAX_STREAMS)},
            metadata_errors="ignore",
        )
    except MemoryError:  # FFmpeg reports too many streams with the same error
        raise DecoderLimitError(f"more than {MAX_STREAMS} streams, or too much memory to open them") from None
    for stream in container.streams:
        if stream.type in PLAYED and stream.codec_context is not None:
            stream.codec_context.thread_count = 1  # the pool is the parallelism
            stream.codec_context.options = {"err_detect": STRICT, "max_pixels": str(limits.max_pixels)}
    return container


def decode_all(container: InputContainer, stream: Stream, *, has_duration: bool = True) -> DecodedStream:
    """Decode every packet of all video and audio streams; return the result of `stream`.

    `has_duration`: the container's duration, if any, is declared and not estimated, so the end is compared with it.

    Raises:
        FileCorruptedError: a packet is damaged, `stream` has no frame, or the file ends well before its duration.
        FileTypeNotSupportedError: the codec of a stream is not known.
    """
    decoded = DecodedStream()
    end = Fraction(0)
    pixels = 0
    for packet in container.demux():
        if packet.is_corrupt:
            raise FileCorruptedError(f"a packet of stream {packet.stream_index} is damaged")
        end = max(end, _packet_end(packet))
        if packet.stream_index == stream.index:
            decoded.packets += packet.size > 0  # the last packet only flushes the decoder
        if packet.stream.type in PLAYED:
            if packet.stream.codec_context is None:
                raise FileTypeNotSupportedError(f"the codec of stream {packet.stream_index} is not known")
            pixels += _decode_packet(packet, decoded if packet.stream_index == stream.index else DecodedStream())
            if pixels > MAX_DECODED_PIXELS and packet.stream.type == "video":
                packet.stream.codec_context.skip_frame = "NONKEY"
    if decoded.frames == 0:
        raise FileCorruptedError("the file has no video or audio frame")
    seconds = float(end - Fraction(container.start_time or 0, av.time_base))
    if has_duration:
        _check_duration(container, seconds)
    if stream.type == "video":
        decoded.seconds = seconds
    return decoded


def _packet_end(packet: AnyPacket) -> Fraction:
    timestamp = packet.pts if packet.pts is not None else packet.dts
    if timestamp is None or packet.time_base is None:
        return Fraction(0)
    return (timestamp + (packet.duration or 0)) * packet.time_base


def _decode_packet(packet: AnyPacket, decoded: DecodedStream) -> int:
    """Decode one packet and return the number of decoded pixels."""
    pixels = 0
    for frame in packet.decode():
        if not isinstance(frame, av.VideoFrame | av.AudioFrame):
            continue  # subtitles, by the types of PyAV
        if frame.is_corrupt:
            raise FileCorruptedError(f"a frame of stream {packet.stream_index} is damaged")
        if isinstance(frame, av.VideoFrame):
            size = frame.width, frame.height
            if decoded.frames == 0:
                decoded.size, decoded.rotation = size, frame.rotation
            elif decoded.size != size:  # formats allow it, but in practice the header is damaged
                raise FileCorruptedError(f"a frame of stream {packet.stream_index} has another size: {size}")
            pixels += frame.width * frame.height
        elif frame.sample_rate:
            decoded.seconds += frame.samples / frame.sample_rate
        decoded.frames += 1
    return pixels


def _check_duration(container: InputContainer, seconds: float) -> None:
    declared = (container.duration or 0) / av.time_base
    if seconds < declared * (1 - TOLERANCE) - TOLERANCE_SECONDS:
        raise FileCorruptedError(f"the file ends at {seconds:.2f} s of {declared:.2f} s")


def duration_seconds(container: InputContainer, decoded: DecodedStream) -> float | None:
    """Return the duration in seconds that the container declares, or the decoded one; None if not plausible."""
    declared = (container.duration or 0) / av.time_base
    return shown_seconds(declared if declared > 0 else decoded.seconds)


def shown_seconds(seconds: float) -> float | None:
    """Round a duration to milliseconds; None if it is zero, or not plausible."""
    return round(seconds, 3) if 0 < seconds < MAX_SECONDS else None


def first_stream(streams: "tuple[S, ...]", kind: str) -> S:
    """Return the first stream of a kind.

    Raises:
        FileTypeNotSupportedError: there is none, or its codec is not known.
    """
    if not streams:
        raise FileTypeNotSupportedError(f"the container has no {kind} stream")
    if streams[0].codec_context is None:
        raise FileTypeNotSupportedError(f"the codec of the container's {kind} stream is not known")
    return streams[0]
