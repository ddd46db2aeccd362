"""The boxes of ISO media files (MP4, MOV, M4A, HEIC): whether they are all there. Runs in a codec process.

A file that was cut in the middle still opens, and players show what is left; only the boxes tell that something lacks.
"""

from pathlib import Path
from typing import Final

from handlers.errors import FileCorruptedError

LONG: Final = 1
TO_THE_END: Final = 0


def check_boxes(source: Path, needed: bytes) -> None:
    """Walk the top-level boxes (ISO/IEC 14496-12, 4.2): each must end within the file, and `needed` be among them.

    Raises:
        FileCorruptedError: a box is cut short, or the needed one is missing.
    """
    size = source.stat().st_size
    found = set()
    at = 0
    with source.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            found.add(kind)
            if length == LONG:
                length = int.from_bytes(head[8:16], "big")
            if length == TO_THE_END:
                break
            if length < 8 or at + length > size:  # noqa: PLR2004 - the size of a box's own header
                if found >= {needed, b"mdat"} and not kind.isalnum():
                    break  # padding after the last box does no harm
                raise FileCorruptedError(f"the file ends in the middle of its {kind!r} box, at {size:,} bytes")
            at += length
    if needed not in found:
        raise FileCorruptedError(f"the file has no {needed.decode()} box: it is not complete")
