"""ZIP archives: every member is unpacked and compared with its checksum. The archives are stored as they are.

The format is PKWARE's APPNOTE. Runs in a codec process.
"""

import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final

from handlers.detect.zip_types import LOCAL_FILE
from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.describe import check_and_describe
from handlers.media.formats import Content, cut_tail, mapped

MAX_UNPACKED: Final = 1 << 30
"""Maximum bytes of all unpacked members together: a ZIP file of 50 MiB may unpack to terabytes."""
MAX_MEMBERS: Final = 100_000
PIECE_BYTES: Final = 1 << 20
ENCRYPTED, SIZES_FOLLOW = 0x1, 0x8
"""Flags of a member: encrypted; sizes and checksum follow the content (APPNOTE 4.4.4)."""
LOCAL_HEADER: Final = struct.Struct("<4sHHH4xIIIHH")
ZIP64_VERSION: Final = 45
IN_ZIP64: Final = 0xFFFFFFFF
"""The value of a size or an offset that is too large for its field."""
END_RECORD: Final = b"PK\x05\x06"
END_RECORD_BYTES: Final = 22
ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""The errors that zipfile and the decompressors raise for a damaged archive, besides the OSError of bz2."""


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,  # noqa: ARG001 - all kinds have the same signature
    limits: Limits,  # noqa: ARG001 - the same
) -> Decoded:
    """Validate a ZIP file.

    Raises:
        FileCorruptedError: the directory or a member is damaged, or a member is encrypted; or the directory and the
            local files differ, so that two readers would find different content.
        DecoderLimitError: it has more than MAX_MEMBERS members or unpacks to more than MAX_UNPACKED bytes.
    """
    path = cut_tail(source, target, content_type)
    check_archive(path)
    return check_and_describe(path, target, content_type)


def check_archive(path: Path) -> None:
    """Compare the local files with the directory, and unpack every member. Raises the errors of `prepare`."""
    try:
        with zipfile.ZipFile(path) as archive:
            with mapped(path) as content:
                _check_headers(archive, content)
            _check_members(archive)
    except (*ERRORS, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the system; that of bz2 for damaged content has no number
        raise FileCorruptedError(f"the archive cannot be unpacked: {error}") from None


def check_content(content: Content) -> int:
    """Return where the archive ends: after the last end record that matches the directory, and its comment.

    Raises:
        FileCorruptedError: there is no such record, or other bytes come before the archive.
    """
    at = content.rfind(END_RECORD)
    while at >= 0:
        comment_bytes = int.from_bytes(content[at + 20 : at + 22], "little")
        size, start = (int.from_bytes(content[at + field : at + field + 4], "little") for field in (12, 16))
        end = at + END_RECORD_BYTES + comment_bytes
        if end <= len(content) and (start + size == at or IN_ZIP64 in {start, size}):
            return end
        at = content.rfind(END_RECORD, 0, at)
    raise FileCorruptedError("the archive has no directory: it is not complete")


def _check_headers(archive: zipfile.ZipFile, content: Content) -> None:
    """Check that the directory lists every local file of the archive once (APPNOTE 4.3.7), and nothing else."""
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        _check_gap(content, end, member.header_offset)
        end = _check_header(member, content)
    _check_gap(content, end, archive.start_dir)


def _check_gap(content: Content, start: int, end: int) -> None:
    """Check that no local file is between two listed members, and that these do not overlap."""
    if start > end or content.find(LOCAL_FILE, start, end) >= 0:
        raise FileCorruptedError(f"the archive's directory and its local files differ, at byte {min(start, end):,}")


def _check_header(member: zipfile.ZipInfo, content: Content) -> int:
    """Compare a member's header with the directory; return where its content ends. zipfile compares the names."""
    start, body = member.header_offset, member.header_offset + LOCAL_HEADER.size
    signature, version, flags, method, *in_header, name_bytes, extra_bytes = LOCAL_HEADER.unpack(content[start:body])
    in_directory = [member.CRC, member.compress_size, member.file_size]
    absent = {0 if flags & SIZES_FOLLOW else None, IN_ZIP64 if version >= ZIP64_VERSION else None}
    differs = any(a not in {b, *absent} for a, b in zip(in_header, in_directory, strict=True))
    if signature != LOCAL_FILE or (flags, method) != (member.flag_bits, member.compress_type) or differs:
        raise FileCorruptedError(f"the archive's directory and the header of its member {member.filename!r} differ")
    return int(body + name_bytes + extra_bytes + member.compress_size)


def _check_members(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise DecoderLimitError(f"the archive has {len(members):,} members; {MAX_MEMBERS:,} are allowed")
    unpacked = 0
    for member in members:
        if member.flag_bits & ENCRYPTED:
            raise FileCorruptedError(f"the archive's member {member.filename!r} is encrypted and cannot be checked")
        with archive.open(member) as file:
            while piece := file.read(PIECE_BYTES):  # at the end zipfile compares the checksum
                unpacked += len(piece)
                if unpacked > MAX_UNPACKED:
                    raise DecoderLimitError(f"the archive unpacks to more than {MAX_UNPACKED >> 20} MiB")
