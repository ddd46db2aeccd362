"""GIF: blocks up to the trailer (GIF89a, sections 18 to 27)."""

from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

FIRST_BLOCK: Final = 13
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B


def end(content: Content) -> int:
    """Return where the image ends: after its trailer."""
    if content[:6] not in {b"GIF87a", b"GIF89a"}:
        raise FileCorruptedError("the image does not begin as a GIF")
    at = FIRST_BLOCK + _palette(content[10])
    while (block := content[at]) != TRAILER:
        if block == EXTENSION:
            at += 2
        elif block == IMAGE:
            at += 11 + _palette(content[at + 9])
        else:
            raise FileCorruptedError(f"the image has no block at {at:,}, where one must stand")
        while length := content[at]:
            at += 1 + length
        at += 1
    return at + 1


def _palette(flags: int) -> int:
    """Return the bytes of the colour table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
