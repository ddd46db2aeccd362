"""Metadata taken out of a file that is stored as it came: segments are left out, no pixel is coded anew.

What a viewer needs to show the picture rightly stays: profile, colour space, orientation, animation. What follows the
picture's end goes too: a phone hides a video, or a second picture with metadata of its own, there.
"""

import re
import struct
import zlib
from collections.abc import Callable
from typing import Final

from handlers.media.metadata.scrub_boxes import scrub_boxes
from handlers.media.metadata.scrub_tiff import orientation_of, scrub_tiff

XMP_IN_JPEG: Final = b"http://ns.adobe.com/xap/1.0/\0"
XMP_IN_PNG: Final = b"XML:com.adobe.xmp\0\0\0\0\0"
MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
APP0, APP1, APP2, APP14, APP15, COM, EOI = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE, 0xD9
PNG_KEPT: Final = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD hIST pHYs sPLT acTL fcTL fdAT".split()
)
WEBP_KEPT: Final = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"})
WEBP_EXIF, WEBP_XMP = 0x08, 0x04


def scrubbed(content: bytes, content_type: str, xmp: bytes | None) -> bytes | None:
    """Return the file without its metadata, `xmp` in its place; None where the format or the file is not understood.

    GIF is not: it holds comments at most. HEIC, AVIF and TIFF keep their size, what they said is blanked.
    """
    try:
        return FORMATS[content_type](content, xmp)
    except (KeyError, struct.error, IndexError, ValueError):
        return None


def _exif(orientation: int) -> bytes:
    """Return the shortest EXIF that turns a picture (TIFF 6.0, section 2)."""
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)


def _jpeg(content: bytes, xmp: bytes | None) -> bytes:
    """Walk the segments (ITU-T T.81, B.1); progressive pictures have several scans, with segments between them."""
    head, body, turn, at = [content[:2]], [], 1, 2
    while (found := MARKER.search(content, at)) is not None:
        marker, start = content[found.start() + 1], found.start()
        body.append(content[at:start])  # the coded pixels, after a scan's header
        if marker == EOI:
            break
        at = start + 2 + struct.unpack_from(">H", content, start + 2)[0]
        segment = content[start:at]
        if marker == APP0:
            head += [segment] if segment[4:9] == b"JFIF\0" else []  # else it is a preview
        elif not (APP1 <= marker <= APP15 or marker == COM) or _is_colour(marker, segment):
            body.append(segment)
        elif segment[4:10] == b"Exif\0\0":
            turn = orientation_of(segment[10:])
    else:
        raise ValueError("the picture has no end")
    if turn != 1:
        head.append(_segment(b"Exif\0\0" + _exif(turn)))
    if xmp:
        head.append(_segment(XMP_IN_JPEG + xmp))
    return b"".join([*head, *body, b"\xff\xd9"])


def _segment(body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, APP1, len(body) + 2) + body


def _is_colour(marker: int, segment: bytes) -> bool:
    """Tell the segments by which a viewer reads colours right: the ICC profile, and Adobe's word on the components."""
    return (marker == APP2 and segment[4:16] == b"ICC_PROFILE\0") or (marker == APP14 and segment[4:9] == b"Adobe")


def _png(content: bytes, xmp: bytes | None) -> bytes:
    """Walk the chunks (PNG, third edition, 5.3)."""
    kept, turn, at = [], 1, 8
    while at < len(content):
        size, name = struct.unpack_from(">I4s", content, at)
        chunk = content[at : at + size + 12]
        if name in PNG_KEPT:
            kept.append(chunk)
        elif name == b"eXIf":
            turn = orientation_of(chunk[8:-4])
        if name == b"IEND":
            break
        at += len(chunk)
    added = [_chunk(b"eXIf", _exif(turn))] if turn != 1 else []
    if xmp:
        added.append(_chunk(b"iTXt", XMP_IN_PNG + xmp))
    return b"".join([content[:8], kept[0], *added, *kept[1:]])


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _webp(content: bytes, xmp: bytes | None) -> bytes:
    """Walk the chunks (RFC 9649, 2.3 to 2.7); the extended header tells which there are."""
    kept, turn, at = [], 1, 12
    end = min(len(content), 8 + struct.unpack_from("<I", content, 4)[0])
    while at + 8 <= end:
        name, size = struct.unpack_from("<4sI", content, at)
        body = content[at + 8 : at + 8 + size]
        if name in WEBP_KEPT:
            kept.append((name, body))
        elif name == b"EXIF":
            turn = orientation_of(body.removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    if kept[0][0] == b"VP8X":
        added = (WEBP_EXIF if turn != 1 else 0) | (WEBP_XMP if xmp else 0)
        flags = kept[0][1][0] & ~(WEBP_EXIF | WEBP_XMP) | added
        kept[0] = (b"VP8X", bytes([flags]) + kept[0][1][1:])
        kept += [(b"EXIF", _exif(turn))] if turn != 1 else []
        kept += [(b"XMP ", xmp)] if xmp else []
    chunks = b"".join(name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for name, body in kept)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


FORMATS: Final[dict[str, Callable[[bytes, bytes | None], bytes]]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
    "image/heic": scrub_boxes,
    "image/avif": scrub_boxes,
    "image/tiff": scrub_tiff,
}
