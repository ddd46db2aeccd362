"""Removing metadata from an image file that is kept, without encoding its pixels again.

The segments and chunks that a viewer needs stay: profile, colour space, orientation, animation, and the other pictures
that a JPEG lists. In JPEG, PNG and WebP, bytes after the end of the image are removed too: phones store a video there.
"""

import contextlib
import struct
from collections.abc import Callable
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Part, isobmff, jpeg, png, riff
from handlers.media.metadata.scrub_stills import free_box, remove_from_jp2, remove_from_psd
from handlers.media.metadata.scrub_tiff import orientation_of, remove_from_tiff

XMP_IN_JPEG: Final = b"http://ns.adobe.com/xap/1.0/\0"
XMP_IN_PNG: Final = b"XML:com.adobe.xmp\0\0\0\0\0"
APP0, APP1, APP2, APP13, APP14, APP15 = b"\xe0", b"\xe1", b"\xe2", b"\xed", b"\xee", b"\xef"
COMMENT: Final = b"\xfe"
PNG_KEPT: Final = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD hIST pHYs sPLT acTL fcTL fdAT".split()
)
WEBP_KEPT: Final = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"})
WEBP_EXIF, WEBP_XMP = 0x08, 0x04
"""Flags of VP8X."""
EMPTY_EXIF_ITEM: Final = b"\0\0\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
"""An EXIF item without tags. HEIC and AVIF are rotated by `irot` and `imir`, never by EXIF."""


def remove_metadata(content: bytes, content_type: str, xmp: bytes | None) -> bytes | None:
    """Return the file without its metadata, and with `xmp` if there is a place for it.

    Return None if the type is not in FORMATS, or the file is damaged or a BigTIFF. In HEIC, AVIF, TIFF and JPEG 2000,
    and in a JPEG with several pictures, metadata is overwritten, so the file keeps its size.
    """
    try:
        return FORMATS[content_type](content, xmp)
    except (KeyError, IndexError, ValueError, struct.error, FileCorruptedError):
        return None


def _exif(orientation: int) -> bytes:
    """Return an EXIF block that has only an orientation (TIFF 6.0, section 2)."""
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)


def _remove_from_jpeg(content: bytes, xmp: bytes | None) -> bytes:
    if others := jpeg.other_pictures(content):
        return _overwrite_in_jpegs(content, [0, *(start for start, _ in others)])
    head, body, orientation, at = [jpeg.START_OF_IMAGE], [], 1, len(jpeg.START_OF_IMAGE)
    for part in jpeg.segments(content):
        body.append(content[at : part.start])  # coded pixels after a scan header
        segment, at = content[part.start : part.end], part.end
        if part.kind == APP0:
            head += [segment] if segment[4:9] == b"JFIF\0" else []  # other APP0 segments hold a preview
        elif not (APP1 <= part.kind <= APP15 or part.kind == COMMENT) or _is_colour(part.kind, segment):
            body.append(segment)
        elif segment[4:10] == b"Exif\0\0":
            orientation = orientation_of(segment[10:])
    if orientation != 1:
        head.append(_app1(b"Exif\0\0" + _exif(orientation)))
    if xmp:
        head.append(_app1(XMP_IN_JPEG + xmp))
    return b"".join([*head, *body])


def _overwrite_in_jpegs(content: bytes, starts: list[int]) -> bytes:
    """Overwrite EXIF, IPTC and comments of the pictures at `starts`; no byte moves, since offsets refer to pictures.

    All XMP stays, because it describes the gain map.
    """
    file = bytearray(content)
    for start in starts:
        with contextlib.suppress(FileCorruptedError, IndexError):  # a picture after the first may be damaged
            for part in jpeg.segments(content, start):
                file[part.start : part.end] = _overwritten(content[part.start : part.end], part.kind)
    return bytes(file)


def _overwritten(segment: bytes, kind: bytes) -> bytes:
    """Return what replaces a segment, in the same length.

    Of EXIF only the orientation stays. IPTC and comments become fill bytes. Every other segment is returned unchanged.
    """
    if kind in {APP13, COMMENT}:
        return jpeg.FILL * len(segment)
    if kind != APP1 or segment[4:10] != b"Exif\0\0":
        return segment
    exif = _exif(orientation_of(segment[10:]))
    size = len(segment) - 10
    return segment[:10] + (exif.ljust(size, b"\0") if len(exif) <= size else bytes(size))


def _app1(body: bytes) -> bytes:
    return struct.pack(">BcH", 0xFF, APP1, len(body) + 2) + body


def _is_colour(marker: bytes, segment: bytes) -> bool:
    """Whether the segment is part of the ICC profile, or Adobe's description of the colour components."""
    return (marker == APP2 and segment[4:16] == b"ICC_PROFILE\0") or (marker == APP14 and segment[4:9] == b"Adobe")


def _remove_from_png(content: bytes, xmp: bytes | None) -> bytes:
    kept, orientation = [], 1
    for chunk in png.chunks(content):
        if chunk.kind in PNG_KEPT:
            kept.append(content[chunk.start : chunk.end])
        elif chunk.kind == b"eXIf" and not png.is_damaged(content, chunk):
            orientation = orientation_of(content[chunk.body : chunk.body_end])
    added = [png.encode_chunk(b"eXIf", _exif(orientation))] if orientation != 1 else []
    if xmp:
        added.append(png.encode_chunk(b"iTXt", XMP_IN_PNG + xmp))
    return b"".join([png.SIGNATURE, kept[0], *added, *kept[1:]])


def _remove_from_webp(content: bytes, xmp: bytes | None) -> bytes:
    kept, orientation = [], 1
    for chunk in riff.chunks(content, riff.FILE_HEADER_BYTES, min(len(content), riff.declared_end(content))):
        body = content[chunk.body : chunk.body_end]
        if chunk.kind in WEBP_KEPT:
            kept.append((chunk.kind, body))
        elif chunk.kind == b"EXIF":
            orientation = orientation_of(body.removeprefix(b"Exif\0\0"))
    if kept[0][0] == b"VP8X":  # its flags declare which chunks follow
        added = (WEBP_EXIF if orientation != 1 else 0) | (WEBP_XMP if xmp else 0)
        flags = kept[0][1][0] & ~(WEBP_EXIF | WEBP_XMP) | added
        kept[0] = (b"VP8X", bytes([flags]) + kept[0][1][1:])
        kept += [(b"EXIF", _exif(orientation))] if orientation != 1 else []
        kept += [(b"XMP ", xmp)] if xmp else []
    return riff.encode_chunk(b"RIFF", b"WEBP" + b"".join(riff.encode_chunk(kind, body) for kind, body in kept))


def _remove_from_boxes(content: bytes, xmp: bytes | None) -> bytes:
    """Overwrite EXIF and `mime` items (XMP is one), and turn top-level `uuid` boxes (C2PA manifests) into `free` boxes.

    No box is moved.
    """
    file = bytearray(content)
    for box in isobmff.boxes(content, 0, len(content)):
        if box.kind == b"uuid":
            free_box(file, box)
    for meta in isobmff.meta_boxes(content):
        _overwrite_items(file, content, meta, xmp or b"")
    return bytes(file)


def _overwrite_items(file: bytearray, content: bytes, meta: dict[bytes, Part], xmp: bytes) -> None:
    types = isobmff.item_types(content, meta[b"iinf"])
    for item, method, extents in isobmff.item_locations(content, meta[b"iloc"]):
        kind = types.get(item)
        if kind not in {b"Exif", b"mime"} or method > 1:
            continue
        base = meta[b"idat"].body if method == 1 and b"idat" in meta else 0
        replacement, filler = (EMPTY_EXIF_ITEM, b"\0") if kind == b"Exif" else (xmp, b" ")
        for offset, size in extents:
            start = base + offset
            if start + size > len(file):
                raise ValueError("an item lies beyond the end of the file")
            file[start : start + size] = (replacement if len(replacement) <= size else b"").ljust(size, filler)
            replacement = b""


FORMATS: Final[dict[str, Callable[[bytes, bytes | None], bytes]]] = {
    "image/jpeg": _remove_from_jpeg,
    "image/png": _remove_from_png,
    "image/webp": _remove_from_webp,
    "image/heic": _remove_from_boxes,
    "image/avif": _remove_from_boxes,
    "image/tiff": remove_from_tiff,
    "image/jp2": remove_from_jp2,
    "image/vnd.adobe.photoshop": remove_from_psd,
}
