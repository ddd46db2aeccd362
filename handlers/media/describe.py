"""Describes files that are ready to store. `check_and_describe` runs in a codec process, the others in the worker."""

import hashlib
from pathlib import Path
from typing import Any, Final

from handlers.media import UNVERIFIED, Decoded, Prepared
from handlers.media.formats import cut_tail

READ_BYTES: Final = 256 * 1024


def check_and_describe(path: Path, target: Path, content_type: str, **properties: Any) -> Decoded:  # noqa: ANN401 - of Decoded
    """Check the structure of a file that is stored as it is, and describe it.

    The path of the result is `path`, or that of a copy beside `target` if bytes follow the file's end or it must be
    repaired. `properties` are the optional fields of Decoded. Raises the errors of `cut_tail`.
    """
    without_tail = cut_tail(path, target.with_name(f"{path.name}.cut"), content_type)
    return Decoded(path=without_tail, content_type=content_type, **properties)


def describe_unverified(path: Path) -> Prepared:
    """Describe a file that is stored without a check. Only the worker calls it."""
    size, sha256, md5 = size_and_hashes(path)
    return Prepared(
        path=path,
        content_type=UNVERIFIED.content_type,
        extension=UNVERIFIED.extension,
        file_size=size,
        sha256=sha256,
        md5=md5,
    )


def size_and_hashes(path: Path) -> tuple[int, str, str]:
    """Read a file; return its size in bytes, its SHA-256 and its MD5 as hex digits."""
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            size += len(piece)
            sha256.update(piece)
            md5.update(piece)
    return size, sha256.hexdigest(), md5.hexdigest()
