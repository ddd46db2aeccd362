"""What is told of a prepared file: its size and hash, read from the disk it lies on. Runs in a codec process."""

import hashlib
from pathlib import Path
from typing import Any

from handlers.media import BY_CONTENT_TYPE, Prepared


def describe(path: Path, content_type: str, **shape: Any) -> Prepared:  # noqa: ANN401 - the optional fields of Prepared
    """Describe the file at `path`; `shape` are Prepared's optional fields (width, height, duration...)."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return Prepared(path, content_type, BY_CONTENT_TYPE[content_type].extension, size, sha256, **shape)
