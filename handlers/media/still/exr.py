"""OpenEXR, pictures with floating-point samples: headers, a table of offsets, and the blocks of pixels at them.

The picture is stored without encoding it, since none of our output formats holds its range.
"""

from pathlib import Path
from typing import Final

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.describe import check_and_describe
from handlers.media.formats import Content, mapped
from handlers.media.still import exr_lines
from handlers.media.still.exr_lines import Header, size_of

VERSION: Final = 2
IS_TILED, IS_DEEP, IS_MULTIPART = 0x200, 0x800, 0x1000
FIRST_FIELDS_BYTES: Final = 8
MAX_ATTRIBUTES: Final = 10_000
MAX_NAME_BYTES: Final = 255
MAX_PARTS: Final = 1_000
REQUIRED: Final = {
    **dict.fromkeys((b"channels", b"compression", b"lineOrder"), 1),
    **dict.fromkeys((b"pixelAspectRatio", b"screenWindowWidth"), 4),
    b"screenWindowCenter": 8,
}
"""Attributes that every header must have besides the two windows, and the size of each value in bytes."""
ATTRIBUTE_TYPES: Final = {
    b"channels": b"chlist",
    b"compression": b"compression",
    b"lineOrder": b"lineOrder",
    b"screenWindowCenter": b"v2f",
    **dict.fromkeys((b"pixelAspectRatio", b"screenWindowWidth"), b"float"),
    **dict.fromkeys((b"dataWindow", b"displayWindow"), b"box2i"),
}
"""The type of each attribute that we read. Decoders ignore such an attribute if it has another type."""
MAX_VALUE_BYTES: Final = 1 << 16


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,  # noqa: ARG001 - all kinds have the same signature
    limits: Limits,
) -> Decoded:
    """Check the structure; pixels are not decoded. The result has the size of the display window.

    Raises:
        FileCorruptedError: a header is damaged, or blocks are missing.
        DecoderLimitError: the image has more pixels than `limits` allow, or too many parts or attributes.
    """
    with mapped(source) as content:
        headers, _, _ = _read_headers(content)
        width, height = size_of(headers[0], b"displayWindow")
    if width * height > limits.max_pixels:
        raise DecoderLimitError(f"the image has {width}x{height} pixels; MAX_IMAGE_PIXELS is {limits.max_pixels:,}")
    return check_and_describe(source, target, content_type, width=width, height=height, frames=1)


def check_content(content: Content) -> int:
    """Check that every block of pixels is in the file; return where the last block ends.

    Raises:
        FileCorruptedError: a header is damaged, or blocks are missing or overlap.
        DecoderLimitError: the file has more than MAX_PARTS parts, or a part more than MAX_ATTRIBUTES attributes.
    """
    headers, flags, at = _read_headers(content)
    offsets = _read_offsets(content, at)
    if not flags & (IS_TILED | IS_DEEP | IS_MULTIPART):
        exr_lines.check(content, offsets, headers[0])
    end = at + 8 * len(offsets)
    for offset in sorted(offsets):
        if offset < end:
            raise FileCorruptedError(f"two blocks of the image overlap at byte {offset:,}")
        end = offset + _block_bytes(content, offset, headers, flags)
        if end > len(content):
            raise FileCorruptedError(f"a block of the image ends at {end:,} and the file has {len(content):,} bytes")
    return end


def _read_headers(content: Content) -> tuple[list[Header], int, int]:
    """Return the headers of all parts, the flags, and where the table of offsets begins."""
    flags = int.from_bytes(content[4:8], "little")
    if len(content) < FIRST_FIELDS_BYTES or flags & 0xFF != VERSION:
        raise FileCorruptedError("the image is not OpenEXR of version 2")
    headers, at = [], FIRST_FIELDS_BYTES
    while True:
        header, at = _read_header(content, at)
        headers.append(header)
        if not flags & IS_MULTIPART:
            return headers, flags, at
        if content[at : at + 1] == b"\0":
            return headers, flags, at + 1
        if len(headers) == MAX_PARTS:
            raise DecoderLimitError(f"the image has more than {MAX_PARTS} parts")


def _read_header(content: Content, at: int) -> tuple[Header, int]:
    header: Header = {}
    for _ in range(MAX_ATTRIBUTES):
        if content[at : at + 1] == b"\0":
            break
        name, at = _read_name(content, at)
        kind, at = _read_name(content, at)
        if kind != ATTRIBUTE_TYPES.get(name, kind):
            raise FileCorruptedError(f"the attribute {name!r} of the image is {kind[:20]!r}")
        end = at + 4 + int.from_bytes(content[at : at + 4], "little")
        if end > len(content):
            raise FileCorruptedError(f"the attribute {name!r} of the image goes beyond its end")
        header[name], at = bytes(content[at + 4 : end][:MAX_VALUE_BYTES]), end
    else:
        raise DecoderLimitError(f"the image has more than {MAX_ATTRIBUTES:,} attributes")
    for box in (b"dataWindow", b"displayWindow"):
        size_of(header, box)
    for name, size in REQUIRED.items():
        if len(header.get(name, b"")) < size:
            raise FileCorruptedError(f"the image does not declare its {name.decode()}")
    return header, at + 1


def _read_name(content: Content, at: int) -> tuple[bytes, int]:
    end = content.find(b"\0", at, at + MAX_NAME_BYTES + 1)
    if end <= at:
        raise FileCorruptedError(f"the image has no name of an attribute at byte {at:,}")
    return bytes(content[at:end]), end + 1


def _read_offsets(content: Content, at: int) -> list[int]:
    """Return the offsets of all blocks. The first block follows the table, so the table ends at the lowest offset."""
    offsets: list[int] = []
    lowest = len(content)
    while at < lowest:
        offset = int.from_bytes(content[at : at + 8], "little")
        offsets.append(offset)
        at, lowest = at + 8, min(lowest, offset)
    if at != lowest or not offsets:
        raise FileCorruptedError("the image is not complete: its table of offsets is damaged")
    return offsets


def _block_bytes(content: Content, at: int, headers: list[Header], flags: int) -> int:
    """Return the size in bytes of a block and its header."""
    start, kind = at, b""
    if flags & IS_MULTIPART:
        part = int.from_bytes(content[at : at + 4], "little")
        if part >= len(headers):
            raise FileCorruptedError(f"a block of the image belongs to part {part:,} of {len(headers)}")
        kind, at = headers[part].get(b"type", b""), at + 4
    at += 16 if flags & IS_TILED or kind.endswith(b"tile\0") or kind in {b"tiledimage", b"deeptile"} else 4
    if not (flags & IS_DEEP or kind.startswith(b"deep")) or kind in {b"scanlineimage", b"tiledimage"}:
        return at + 4 + int.from_bytes(content[at : at + 4], "little") - start
    table, samples = (int.from_bytes(content[at + field : at + field + 8], "little") for field in (0, 8))
    return at + 24 + table + samples - start
