"""Audio: decoded completely, stored as it is. Runs in a codec process."""

from pathlib import Path
from typing import Final

from handlers.detect.signatures import HEAD_BYTES, by_signature
from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.av.decode import decode_all, first_stream, open_container, shown_seconds
from handlers.media.formats import adts, cut_tail, mapped, mp3
from handlers.media.formats.audio_frames import frame_runs, skip_id3

FRAME_SIZES: Final = {"audio/mpeg": mp3.frame_size, "audio/aac": adts.frame_size}
"""For the types without a container, whose files are only frames and tags: what returns the size of a frame."""
BEHIND_TAG: Final = frozenset({"audio/flac", "audio/aac"})
"""Types that may follow an ID3 tag that was so large that the file was detected as MP3."""


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,  # noqa: ARG001 - all kinds have the same signature
    limits: Limits,
) -> Decoded:
    """Validate an audio file.

    Raises:
        FileCorruptedError: it is incomplete or does not decode completely.
        FileTypeNotSupportedError: it has no audio stream, or the codec of a stream is not known.
        DecoderLimitError: it has too many streams.
    """
    if content_type == "audio/mpeg":
        content_type = _type_behind_tag(source)
    path = cut_tail(source, target, content_type)
    frames = without_tags(path, target.with_name("frames"), content_type)
    with open_container(frames, content_type, limits) as container:
        declares = content_type not in FRAME_SIZES  # of others, FFmpeg only estimates the duration
        decoded = decode_all(container, first_stream(container.streams.audio, "audio"), has_duration=declares)
    if frames != path:
        frames.unlink()
    return Decoded(path=path, content_type=content_type, duration=shown_seconds(decoded.seconds))


def _type_behind_tag(source: Path) -> str:
    with mapped(source) as content:
        at = skip_id3(content)
        found = by_signature(content[at : at + HEAD_BYTES]) if at else None
    return found if found in BEHIND_TAG else "audio/mpeg"


def without_tags(source: Path, target: Path, content_type: str) -> Path:
    """Return `source`, or `target` with a copy of only the frames if the file consists of several joined ones.

    FFmpeg's demuxers take the tags between joined files for damaged frames.
    """
    frame_size = FRAME_SIZES.get(content_type)
    if frame_size is None:
        return source
    with mapped(source) as content:
        if sum(run.frames > 0 for run in frame_runs(content, frame_size)) == 1:
            return source
        with target.open("wb") as copy:
            for run in frame_runs(content, frame_size):
                copy.write(content[run.start : run.end])
    return target
