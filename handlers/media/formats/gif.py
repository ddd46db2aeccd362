"""GIF: blocks up to the trailer (GIF89a, sections 18 to 27)."""

from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

HEADER_BYTES: Final = 13
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B


def check_content(content: Content) -> int:
    """Check every block and return the end of the trailer.

    Raises:
        FileCorruptedError: the file does not begin as GIF, or a block is damaged.
        IndexError: it ends in the middle of a block.
    """
    if content[:6] not in {b"GIF87a", b"GIF89a"}:
        raise FileCorruptedError("the image does not begin as a GIF")
    at = HEADER_BYTES + _colour_table_bytes(content[10])
    while (block := content[at]) != TRAILER:
        if block == EXTENSION:
            at += 2
        elif block == IMAGE:
            at += 11 + _colour_table_bytes(content[at + 9])
        else:
            raise FileCorruptedError(f"the image has no block at {at:,}, where one must be")
        while length := content[at]:
            at += 1 + length
        at += 1
    return at + 1


def _colour_table_bytes(flags: int) -> int:
    """Return the size of the colour table that the flags declare."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
