"""Archives: every member unpacked into nothing and checked against its checksum, stored as they are.

Runs in a codec process.
"""

import zipfile
from pathlib import Path
from typing import Final

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Limits, Prepared
from handlers.media.describe import describe
from schemas.jobs import Profile

MAX_UNPACKED: Final = 1 << 30
"""Most bytes all members together may unpack to: a zip of 50 MiB may claim terabytes."""
MAX_MEMBERS: Final = 100_000
PIECE: Final = 1 << 20
ENCRYPTED: Final = 0x1  # APPNOTE 4.4.4, bit 0


def prepare(
    source: Path,
    target: Path,  # noqa: ARG001 - nothing is written; every kind is called alike
    content_type: str,
    profile: Profile,  # noqa: ARG001 - the same
    limits: Limits,  # noqa: ARG001 - the same
) -> Prepared:
    """Validate a zip.

    Raises:
        FileCorruptedError: the directory or a member is damaged, or a member is encrypted.
        DecoderLimitError: it unpacks to more than MAX_UNPACKED bytes or MAX_MEMBERS members.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            _check_members(archive)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise FileCorruptedError(f"the archive cannot be unpacked: {error}") from None
    return describe(source, content_type)


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
