"""AVI: RIFF chunks, the first of type `AVI `, in large files followed by others of type `AVIX` (OpenDML 1.02)."""

from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.formats.riff import FILE_HEADER_BYTES, HEADER

LIST: Final = b"LIST"
REQUIRED: Final = frozenset({b"hdrl", b"movi"})


def check_content(content: Content) -> int:
    """Check the chunks inside every outer `RIFF` chunk; return where the last outer one ends.

    Raises:
        FileCorruptedError: a chunk goes beyond the end of its parent, or the headers or the frames are missing.
    """
    at, lists = 0, set()
    while content[at : at + 4] == b"RIFF" and content[at + 8 : at + 11] == b"AVI":
        end = at + HEADER.size + int.from_bytes(content[at + 4 : at + 8], "little")
        if end > len(content):
            raise FileCorruptedError(f"the file declares {end:,} bytes and has {len(content):,}")
        lists |= _check_chunks(content, at + FILE_HEADER_BYTES, end)
        at = end + end % 2
    if not lists >= REQUIRED:
        raise FileCorruptedError("the file has no headers or no frames")
    return min(at, len(content))


def _check_chunks(content: Content, at: int, end: int) -> set[bytes]:
    """Check the chunks between two offsets; return the types of the lists."""
    lists = set()
    while at + HEADER.size <= end:
        kind, size = HEADER.unpack(content[at : at + HEADER.size])
        body = at + HEADER.size
        if body + size > end:
            raise FileCorruptedError(f"the file's {kind!r} chunk goes beyond its end")
        if kind == LIST:
            lists.add(bytes(content[body : body + 4]))
        at = body + size + size % 2
    return lists
