"""Size and hashes of a file that is ready to store. Runs in a codec process."""

import hashlib
from pathlib import Path
from typing import Any, Final

from handlers.media import BY_CONTENT_TYPE, Prepared
from handlers.media.formats import cut_tail

READ_BYTES: Final = 256 * 1024


def check_and_describe(path: Path, content_type: str, **properties: Any) -> Prepared:  # noqa: ANN401 - the optional fields of Prepared
    """Describe a file that is stored unchanged, without the bytes after its end.

    It checks the structure of the file. `properties` are the optional fields of Prepared.

    Raises:
        FileCorruptedError: the structure is damaged, or the file is incomplete.
    """
    without_tail = cut_tail(path, path.with_name(f"{path.name}.cut"), content_type)
    return describe(without_tail, content_type, **properties)


def describe(path: Path, content_type: str, **properties: Any) -> Prepared:  # noqa: ANN401 - the same
    """Describe a file that our own encoder wrote, which needs no check."""
    size, sha256, md5 = size_and_hashes(path)
    return Prepared(path, content_type, BY_CONTENT_TYPE[content_type].extension, size, sha256, md5, **properties)


def size_and_hashes(path: Path) -> tuple[int, str, str]:
    """Read a file; return its size in bytes, its SHA-256 and its MD5 as hex digits."""
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            size += len(piece)
            sha256.update(piece)
            md5.update(piece)
    return size, sha256.hexdigest(), md5.hexdigest()
