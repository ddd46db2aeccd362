"""3D models: structure checked, stored as they are. Runs in a codec process."""

from pathlib import Path

from handlers.media import Limits, Prepared, Recipe
from handlers.media.describe import describe


def prepare(
    source: Path,
    target: Path,  # noqa: ARG001 - nothing is encoded; every kind is called alike
    content_type: str,
    recipe: Recipe,  # noqa: ARG001 - the same
    limits: Limits,  # noqa: ARG001 - the same
) -> Prepared:
    """Validate a model. Raises FileCorruptedError where its structure is not whole."""
    return describe(source, content_type)
