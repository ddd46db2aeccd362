"""What is told of a prepared file: its size and hashes, read from the disk it lies on. Runs in a codec process."""

from pathlib import Path
from typing import Any

from handlers.media import BY_CONTENT_TYPE, Prepared
from handlers.media.structure import without_tail
from handlers.storage.upload_file import size_and_hashes


def describe(path: Path, content_type: str, **shape: Any) -> Prepared:  # noqa: ANN401 - the optional fields of Prepared
    """Describe a file that came from outside, or a copy beside it that lacks its tail.

    `shape` are Prepared's optional fields. Whatever is stored as it came has come through here: its structure is whole,
    and it ends where its format says.

    Raises:
        FileCorruptedError: the structure is damaged, or goes beyond the end of the file.
    """
    return written(without_tail(path, path.with_name(f"{path.name}.whole"), content_type), content_type, **shape)


def written(path: Path, content_type: str, **shape: Any) -> Prepared:  # noqa: ANN401 - the same
    """Describe a file that an encoder of ours wrote."""
    size, sha256, md5 = size_and_hashes(path)
    return Prepared(path, content_type, BY_CONTENT_TYPE[content_type].extension, size, sha256, md5, **shape)
