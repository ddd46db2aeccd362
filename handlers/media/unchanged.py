"""Files of which only the structure is checked: most models, texts and data. Runs in a codec process."""

from pathlib import Path

from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.describe import check_and_describe


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,  # noqa: ARG001 - all kinds have the same signature
    limits: Limits,  # noqa: ARG001 - the same
) -> Decoded:
    """Validate a file by its structure. Raises the errors of `cut_tail`."""
    return check_and_describe(source, target, content_type)
