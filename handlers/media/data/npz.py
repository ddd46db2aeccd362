"""NPZ, a ZIP file of NumPy arrays: every array is unpacked, its checksum compared, and its size checked."""

import zipfile
from pathlib import Path
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media import Decoded, EncodeOptions, Limits, archive
from handlers.media.data import npy
from handlers.media.describe import check_and_describe
from handlers.media.formats import cut_tail

SUFFIX: Final = ".npy"


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,  # noqa: ARG001 - all kinds have the same signature
    limits: Limits,  # noqa: ARG001 - the same
) -> Decoded:
    """Validate a file of arrays. Raises the errors of `archive.prepare` and `npy.check_content`."""
    path = cut_tail(source, target, content_type)
    archive.check_archive(path)
    with zipfile.ZipFile(path) as members:
        for member in members.infolist():
            _check_array(members, member)
    return check_and_describe(path, target, content_type)


def _check_array(members: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    if not member.filename.endswith(SUFFIX):
        raise FileCorruptedError(f"the member {member.filename[:80]!r} is not an array")
    with members.open(member) as file:
        end = npy.declared_end(file.read(npy.MAX_HEAD_BYTES))
    if end != member.file_size:
        raise FileCorruptedError(
            f"the array {member.filename[:80]!r} has {member.file_size:,} bytes instead of {end:,}"
        )
