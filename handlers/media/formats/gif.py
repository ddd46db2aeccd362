"""GIF: blocks up to the trailer (GIF89a, sections 18 to 27)."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from handlers.errors import FileCorruptedError
from handlers.media.formats import ZEROS, Checked, Content

HEADER_BYTES: Final = 13
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B
GRAPHIC_CONTROL: Final = 0xF9
"""The label of the extension that describes the frame after it."""


Block = tuple[int, int, int, int]
"""An extension or a frame: its kind, and the offsets of its first byte, of its sub-blocks of data, and of its end."""


class Frame(NamedTuple):
    """A frame: size in pixels, whether it is interlaced, LZW's minimum code size, and the sub-blocks of pixels."""

    width: int
    height: int
    is_interlaced: bool
    code_bits: int
    data: bytes


def check_and_repair(content: Content) -> Checked:
    """Check every block and return the end of the trailer, or of the file if it has none.

    Some writers omit the trailer, or write zeros before it. All viewers show such a file. The parts to store have a
    trailer instead of the zeros.

    Raises:
        FileCorruptedError: the file does not begin as GIF, a block is damaged, or it has no trailer and lacks a frame.
        IndexError: it ends in the middle of a block.
    """
    at = _first_block(content)
    has_image = needs_image = False
    for kind, start, _, after in blocks(content):
        at = after
        if kind == IMAGE:
            has_image, needs_image = True, False
        else:
            needs_image = needs_image or content[start + 1] == GRAPHIC_CONTROL
    end = _end_after(content, at)
    if content[end - 1] != TRAILER and (needs_image or not has_image):
        raise FileCorruptedError("the image ends without its last frame")
    return Checked(end, [(0, at), bytes([TRAILER])] if content[at : at + 1] == b"\0" else [])


def frames(content: Content) -> Iterator[Frame]:
    """Yield the frames of a valid file."""
    for kind, start, data, end in blocks(content):
        if kind == IMAGE:
            width, height = (int.from_bytes(content[start + at : start + at + 2], "little") for at in (5, 7))
            yield Frame(width, height, bool(content[start + 9] & 0x40), content[data - 1], content[data:end])


def blocks(content: Content) -> Iterator[Block]:
    """Yield the blocks before the trailer. Raises the errors of `check_and_repair` for damaged ones."""
    at = _first_block(content)
    while not _end_after(content, at):
        kind = content[at]
        if kind == EXTENSION:
            data = at + 2
        elif kind == IMAGE:
            data = at + 11 + _colour_table_bytes(content[at + 9])
        else:
            raise FileCorruptedError(f"the image has no block at {at:,}, where one must be")
        end = data
        while length := content[end]:
            end += 1 + length
        yield kind, at, data, end + 1
        at = end + 1


def _first_block(content: Content) -> int:
    if content[:6] not in {b"GIF87a", b"GIF89a"}:
        raise FileCorruptedError("the image does not begin as a GIF")
    return HEADER_BYTES + _colour_table_bytes(content[10])


def _end_after(content: Content, at: int) -> int:
    """Return where the file ends if only zeros and the trailer follow an offset, else 0."""
    zeros = ZEROS.match(content, at)
    at = zeros.end() if zeros else at
    if at == len(content):
        return at
    return at + 1 if content[at] == TRAILER else 0


def _colour_table_bytes(flags: int) -> int:
    """Return the size of the colour table that the flags declare."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
