"""Sound: decoded whole, stored as it is. Runs in a codec process."""

from pathlib import Path

from handlers.media import Limits, Prepared, Recipe
from handlers.media.av.decode import decode_all, first, open_container, seconds
from handlers.media.describe import describe
from handlers.media.structure import without_tail


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    recipe: Recipe,  # noqa: ARG001 - every kind is called alike
    limits: Limits,
) -> Prepared:
    """Validate a sound file.

    Raises:
        FileCorruptedError: it is cut short or does not decode whole.
        FileTypeNotSupportedError: it has no sound.
    """
    whole = without_tail(source, target, content_type)
    with open_container(whole, content_type, limits) as container:
        stream = first(container.streams.audio, "audio")
        decode_all(container, stream)
        return describe(whole, content_type, duration=seconds(container))
