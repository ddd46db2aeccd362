"""Files that are stored as they are after a check of their structure: models, texts, data. Runs in a codec process."""

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
    """Validate a file. Raises FileCorruptedError if its structure is damaged."""
    return check_and_describe(source, target, content_type)
