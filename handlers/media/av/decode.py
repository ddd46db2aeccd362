"""What video and sound have in common: opening a container, and decoding all that is in it.

Runs in a codec process. FFmpeg is told the format, so that a playlist in disguise never makes it open other files; and
to take damage for an error, where it would conceal it by default.

Everything is decoded, since only that finds damage in the middle, and costs little: measured on one core, 0.03 s for
2.5 s of 480p, 0.9 s for 10 s of 1080p (H.264), 600 to 1,000 million pixels a second. Of a film of more than
MAX_DECODED_PIXELS the rest's key frames are decoded.
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
from handlers.media.image.limits import MAX_STREAMS

STRICT: Final = "crccheck+bitstream+buffer+explode"
"""FFmpeg's `err_detect`: check what has a checksum, and fail instead of concealing."""
MAX_DECODED_PIXELS: Final = 15_000_000_000
"""About a minute of 4K, or four of 1080p: 25 s on one core."""
TOLERANCE: Final = 0.05
"""Share of the declared duration that may lack at the end: streams end unevenly, and some writers round up."""
TOLERANCE_SECONDS: Final = 0.5
PLAYED: Final = frozenset({"video", "audio"})
S = TypeVar("S", bound=Stream)
AnyPacket: TypeAlias = "Packet[Stream]"


@dataclass(slots=True)
class Track:
    """What decoding one stream tells; of its first frame the size in pixels, and by how many degrees it is turned."""

    packets: int = 0
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    rotation: int = 0


def open_container(source: Path, content_type: str, limits: Limits) -> InputContainer:
    """Open the container as what it was detected to be; reading no other file, whatever it refers to.

    Raises:
        DecoderLimitError: it has more than MAX_STREAMS, each of which has a decoder of its own.
    """
    try:
        container = av.open(
            str(source),
            format=BY_CONTENT_TYPE[content_type].reader,
            options={"protocol_whitelist": "file", "err_detect": STRICT, "max_streams": str(MAX_STREAMS)},
            metadata_errors="ignore",
        )
    except MemoryError:  # FFmpeg's answer to a stream too many, too
        raise DecoderLimitError(f"more than {MAX_STREAMS} streams, or too much memory to open them") from None
    for stream in container.streams:
        if stream.type in PLAYED and stream.codec_context is not None:
            stream.codec_context.thread_count = 1  # the pool is the parallelism
            stream.codec_context.options = {"err_detect": STRICT, "max_pixels": str(limits.max_pixels)}
    return container


def decode_all(container: InputContainer, stream: Stream) -> Track:
    """Decode every packet of every stream that is played; follow `stream`.

    Raises:
        FileCorruptedError: a packet is damaged, `stream` has no frame, or they end well before the declared duration.
        FileTypeNotSupportedError: a stream is of a codec that is not known.
    """
    track = Track()
    end = Fraction(0)
    pixels = 0
    for packet in container.demux():
        if packet.is_corrupt:
            raise FileCorruptedError(f"a packet of stream {packet.stream_index} is damaged")
        end = max(end, _end_of(packet))
        if packet.stream_index == stream.index:
            track.packets += packet.size > 0  # the flush at the end has none
        if packet.stream.type in PLAYED:
            if packet.stream.codec_context is None:
                raise FileTypeNotSupportedError(f"stream {packet.stream_index} is coded in a way that is not known")
            pixels += _decode(packet, track if packet.stream_index == stream.index else Track())
            if pixels > MAX_DECODED_PIXELS and packet.stream.type == "video":
                packet.stream.codec_context.skip_frame = "NONKEY"
    _check_whole(container, track, end)
    return track


def _end_of(packet: AnyPacket) -> Fraction:
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None or packet.time_base is None:
        return Fraction(0)
    return (stamp + (packet.duration or 0)) * packet.time_base


def _decode(packet: AnyPacket, track: Track) -> int:
    """Decode one packet and return how many pixels that gave."""
    pixels = 0
    for frame in packet.decode():
        if not isinstance(frame, av.VideoFrame | av.AudioFrame):
            continue  # PyAV's types know subtitles too
        if frame.is_corrupt:
            raise FileCorruptedError(f"a frame of stream {packet.stream_index} is damaged")
        if isinstance(frame, av.VideoFrame):
            size = frame.width, frame.height
            if track.frames == 0:
                track.size, track.rotation = size, frame.rotation
            elif track.size != size:  # formats allow it, generators do not do it, and a damaged header reads so
                raise FileCorruptedError(f"a frame of stream {packet.stream_index} has another size: {size}")
            pixels += frame.width * frame.height
        track.frames += 1
    return pixels


def _check_whole(container: InputContainer, track: Track, end: Fraction) -> None:
    if track.frames == 0:
        raise FileCorruptedError("the file has no frame to play")
    declared = (container.duration or 0) / av.time_base
    start = (container.start_time or 0) / av.time_base
    if float(end) - start < declared * (1 - TOLERANCE) - TOLERANCE_SECONDS:
        raise FileCorruptedError(f"the file ends at {float(end) - start:.2f} s of {declared:.2f} s")


def seconds(container: InputContainer) -> float | None:
    """Return the duration in seconds, where the container knows it."""
    return round(container.duration / av.time_base, 3) if container.duration and container.duration > 0 else None


def first(streams: "tuple[S, ...]", kind: str) -> S:
    """Return the first stream, or refuse the file that has none of its kind, or none that can be decoded."""
    if not streams:
        raise FileTypeNotSupportedError(f"the container has no {kind} stream")
    if streams[0].codec_context is None:
        raise FileTypeNotSupportedError(f"the container's {kind} is coded in a way that is not known")
    return streams[0]
