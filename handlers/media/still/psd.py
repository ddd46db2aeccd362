# ruff: noqa: PLR2004 - binary formats consist of numbers; the specification has them
"""PSD and PSB, Photoshop's files: four sections, then the merged picture (https://www.adobe.com/devnet-apps/photoshop/fileformatashtml/)."""

import struct
from typing import Final, NamedTuple

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

HEADER: Final = struct.Struct(">4sH6xHIIHH")
MAX_SIDE: Final = 300_000
MAX_CHANNELS: Final = 56
DEPTHS: Final = frozenset({1, 8, 16, 32})
RAW, RLE = 0, 1


class Psd(NamedTuple):
    """The header of a file. `layer_bytes` is the size of the section of layers, `picture` the merged picture's offset.

    `is_large` is true for PSB. `depth` is in bits of a sample.
    """

    is_large: bool
    channels: int
    height: int
    width: int
    depth: int
    layer_bytes: int
    picture: int


def check_content(content: Content) -> int:
    """Check that the merged picture is complete; return where it ends, or the file size if it is compressed as ZIP.

    Raises:
        FileCorruptedError: the header is not valid, a section goes beyond the end, or the picture is incomplete.
    """
    psd = read_header(content)
    compression = int.from_bytes(content[psd.picture : psd.picture + 2], "big")
    rows = psd.channels * psd.height
    at = psd.picture + 2
    if compression == RAW:
        end = at + rows * -(-psd.width * psd.depth // 8)
    elif compression == RLE:
        width = 4 if psd.is_large else 2
        body = at + rows * width
        table = content[at:body]
        end = body + sum(int.from_bytes(table[row : row + width], "big") for row in range(0, len(table), width))
        end = end if len(table) == rows * width else len(content) + 1
    else:  # ZIP: the file does not declare its size
        end = len(content)
    if end > len(content) or at > len(content):
        raise FileCorruptedError(f"the image ends at {end:,} and the file has {len(content):,} bytes")
    return end


def read_header(content: Content) -> Psd:
    """Read the header and the lengths of the sections.

    Raises:
        FileCorruptedError: the header is not valid, or a section goes beyond the end of the file.
    """
    if len(content) < HEADER.size:
        raise FileCorruptedError("the image ends in the middle of its header")
    _, version, channels, height, width, depth, _ = HEADER.unpack(content[: HEADER.size])
    is_valid = version in {1, 2} and 0 < channels <= MAX_CHANNELS and depth in DEPTHS
    if not is_valid or not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise FileCorruptedError(f"the image's header is not valid ({channels} channels of {depth} bits)")
    at, layer_bytes = HEADER.size, 0
    for length_bytes in (4, 4, 8 if version == 2 else 4):
        layer_bytes = int.from_bytes(content[at : at + length_bytes], "big")
        at += length_bytes + layer_bytes
    if at + 2 > len(content):
        raise FileCorruptedError("a section of the image goes beyond its end")
    return Psd(version == 2, channels, height, width, depth, layer_bytes, at)
