"""What video and sound share: a container read to its last packet, a frame decoded at either end.

Runs in a codec process. FFmpeg is told the format, so that a playlist in disguise never makes it open other files.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeVar

import av
from av.container import InputContainer
from av.stream import Stream

from handlers.errors import FileCorruptedError, FileTypeNotSupportedError

FORMATS: Final = {
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mp4": "mp4",
    "audio/aac": "aac",
}
"""FFmpeg's demuxer of each content type."""
TOLERANCE: Final = 0.05
"""Share of the declared duration that may lack at the end: streams end unevenly, and some writers round up."""
TOLERANCE_SECONDS: Final = 0.5
S = TypeVar("S", bound=Stream)


@dataclass(slots=True)
class Track:
    """What the packets of one stream tell: how many, its key frames' first and last time stamp, where it ends."""

    packets: int = 0
    first_key: int | None = None
    last_key: int | None = None


def open_container(source: Path, content_type: str) -> InputContainer:
    """Open the container as what it was detected to be; reading no other file, whatever it refers to."""
    return av.open(
        str(source),
        format=FORMATS[content_type],
        options={"protocol_whitelist": "file"},
        metadata_errors="ignore",
    )


def read_packets(container: InputContainer, stream: Stream) -> Track:
    """Read every packet of the container; follow `stream`.

    Raises:
        FileCorruptedError: a packet is damaged, there is none, or they end well before the declared duration.
    """
    track = Track()
    end = Fraction(0)
    for packet in container.demux():
        if packet.size == 0:
            continue  # the flush at the end
        if packet.is_corrupt:
            raise FileCorruptedError(f"a packet of stream {packet.stream_index} is damaged")
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and packet.time_base is not None:
            end = max(end, (stamp + (packet.duration or 0)) * packet.time_base)
        if packet.stream_index == stream.index:
            _follow(track, stamp, is_key=packet.is_keyframe)
    _check_whole(container, track, end)
    return track


def _follow(track: Track, stamp: int | None, *, is_key: bool) -> None:
    track.packets += 1
    if is_key and stamp is not None:
        track.first_key = stamp if track.first_key is None else track.first_key
        track.last_key = stamp


def _check_whole(container: InputContainer, track: Track, end: Fraction) -> None:
    if track.packets == 0:
        raise FileCorruptedError("the file has no packet to play")
    declared = (container.duration or 0) / av.time_base
    start = (container.start_time or 0) / av.time_base
    if float(end) - start < declared * (1 - TOLERANCE) - TOLERANCE_SECONDS:
        raise FileCorruptedError(f"the file ends at {float(end) - start:.2f} s of {declared:.2f} s")


def decode_at(container: InputContainer, stream: Stream, stamp: int | None) -> "av.VideoFrame | av.AudioFrame":
    """Decode the first frame at or after the key frame with this time stamp.

    Raises:
        FileCorruptedError: there is none.
    """
    container.seek(stamp or 0, stream=stream, backward=True)
    for frame in container.decode(stream):
        if isinstance(frame, av.VideoFrame | av.AudioFrame):
            return frame
    raise FileCorruptedError(f"no frame decodes at {stamp}")


def seconds(container: InputContainer) -> float | None:
    """Return the duration in seconds, where the container knows it."""
    return round(container.duration / av.time_base, 3) if container.duration else None


def only(streams: "tuple[S, ...]", kind: str) -> S:
    """Return the first stream, or refuse the file that has none of its kind."""
    if not streams:
        raise FileTypeNotSupportedError(f"the container has no {kind} stream")
    stream = streams[0]
    stream.codec_context.thread_count = 1  # the pool is the parallelism
    return stream
