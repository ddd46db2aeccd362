"""Archives: every member unpacked into nothing and checked against its checksum, stored as they are.

Runs in a codec process.
"""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Limits, Prepared, Recipe
from handlers.media.describe import describe
from handlers.media.structure import without_tail

MAX_UNPACKED: Final = 1 << 30
"""Most bytes all members together may unpack to: a zip of 50 MiB may claim terabytes."""
MAX_MEMBERS: Final = 100_000
PIECE: Final = 1 << 20
ENCRYPTED: Final = 0x1  # APPNOTE 4.4.4, bit 0
SIZES_FOLLOW: Final = 0x8  # bit 3
LOCAL_HEADER: Final = struct.Struct("<4sHHH4xIII")
ZIP64: Final = 45  # the version that can read it
IN_ZIP64: Final = 0xFFFFFFFF
ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What reading a damaged archive raises."""


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    recipe: Recipe,  # noqa: ARG001 - every kind is called alike
    limits: Limits,  # noqa: ARG001 - the same
) -> Prepared:
    """Validate a zip.

    Raises:
        FileCorruptedError: the directory or a member is damaged, or a member is encrypted; or the directory says
            another thing than the members' own headers, so that it depends on the reader what is in it.
        DecoderLimitError: it unpacks to more than MAX_UNPACKED bytes or MAX_MEMBERS members.
    """
    whole = without_tail(source, target, content_type)
    try:
        with zipfile.ZipFile(whole) as archive:
            with whole.open("rb") as file:
                _check_headers(archive, file)
            _check_members(archive)
    except ERRORS as error:
        raise FileCorruptedError(f"the archive cannot be unpacked: {error}") from None
    return describe(whole, content_type)


def _check_headers(archive: zipfile.ZipFile, file: BinaryIO) -> None:
    """Compare each member's own header with the directory (APPNOTE 4.3.7); zipfile compares the names."""
    for member in archive.infolist():
        file.seek(member.header_offset)
        magic, version, flags, method, *said = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        known = [member.CRC, member.compress_size, member.file_size]
        absent = {0 if flags & SIZES_FOLLOW else None, IN_ZIP64 if version >= ZIP64 else None}
        differs = any(one not in {other, *absent} for one, other in zip(said, known, strict=True))
        if magic != b"PK\3\4" or (flags, method) != (member.flag_bits, member.compress_type) or differs:
            raise FileCorruptedError(f"the archive's directory and its member {member.filename!r} say different things")


def _check_members(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise DecoderLimitError(f"the archive has {len(members):,} members; {MAX_MEMBERS:,} are allowed")
    unpacked = 0
    for member in members:
        if member.flag_bits & ENCRYPTED:
            raise FileCorruptedError(f"the archive's member {member.filename!r} is encrypted: it cannot be checked")
        with archive.open(member) as content:
            while piece := content.read(PIECE):  # the end of the reading compares the checksum
                unpacked += len(piece)
                if unpacked > MAX_UNPACKED:
                    raise DecoderLimitError(f"the archive unpacks to more than {MAX_UNPACKED >> 20} MiB")
