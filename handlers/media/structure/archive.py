"""ZIP: members, then a directory of them, then a record of where that is (APPNOTE 4.3)."""

from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

RECORD: Final = b"PK\x05\x06"
RECORD_SIZE: Final = 22
IN_ZIP64: Final = 0xFFFFFFFF


def end(content: Content) -> int:
    """Return where the archive ends: after the last end record that the directory reaches, and its comment.

    Raises:
        FileCorruptedError: there is no such record, or something stands before the archive.
    """
    at = content.rfind(RECORD)
    while at >= 0:
        comment = int.from_bytes(content[at + 20 : at + 22], "little")
        size, start = (int.from_bytes(content[at + place : at + place + 4], "little") for place in (12, 16))
        last = at + RECORD_SIZE + comment
        if last <= len(content) and (start + size == at or IN_ZIP64 in {start, size}):
            return last
        at = content.rfind(RECORD, 0, at)
    raise FileCorruptedError("the archive has no directory: it is not complete")
