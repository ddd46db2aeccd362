"""Audio: decoded completely, stored as it is. Runs in a codec process."""

from pathlib import Path

from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.av.decode import decode_all, duration_seconds, first_stream, open_container
from handlers.media.describe import check_and_describe
from handlers.media.formats import cut_tail


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
        FileTypeNotSupportedError: it has no audio stream.
    """
    path = cut_tail(source, target, content_type)
    with open_container(path, content_type, limits) as container:
        decode_all(container, first_stream(container.streams.audio, "audio"))
        return check_and_describe(path, target, content_type, duration=duration_seconds(container))
