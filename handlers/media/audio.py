"""Sound: read to the end, decoded at both ends, stored as it is. Runs in a codec process."""

from pathlib import Path

from handlers.media import Limits, Prepared
from handlers.media.boxes import check_boxes
from handlers.media.describe import describe
from handlers.media.packets import decode_at, only, open_container, read_packets, seconds
from schemas.jobs import Profile


def prepare(
    source: Path,
    target: Path,  # noqa: ARG001 - nothing is written; every kind is called alike
    content_type: str,
    profile: Profile,  # noqa: ARG001 - the same
    limits: Limits,  # noqa: ARG001 - the same
) -> Prepared:
    """Validate a sound file.

    Raises:
        FileCorruptedError: it is cut short or does not decode.
        FileTypeNotSupportedError: it has no sound.
    """
    if content_type == "audio/mp4":
        check_boxes(source, needed=b"moov")
    with open_container(source, content_type) as container:
        stream = only(container.streams.audio, "audio")
        track = read_packets(container, stream)
        decode_at(container, stream, track.first_key)
        decode_at(container, stream, track.last_key)
        return describe(source, content_type, duration=seconds(container))
