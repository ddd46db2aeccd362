"""Metadata of JPEG 2000 (ISO/IEC 15444-1, I.7) and PSD (Adobe's file format): reading it, and removing it."""

import struct
from collections.abc import Iterator
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content, Part, isobmff

XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
EXIF_UUID: Final = b"JpgTiffExif->JP2"
JP2_FIELDS: Final = {XMP_UUID: "xmp-data", EXIF_UUID: "exif-data"}
"""libvips' field for the content of a `uuid` box, by the 16 bytes that begin it."""
JP2_PRIVATE: Final = frozenset({b"uuid", b"uinf", b"xml ", b"asoc", b"lbl ", b"jumb"})
"""Boxes of metadata: EXIF, XMP, IPTC, GeoJP2, XML, labels, and C2PA manifests."""
PSD_HEADER_BYTES: Final = 26
PSD_XMP: Final = 1060
PSD_FIELDS: Final = {PSD_XMP: "xmp-data", 1058: "exif-data"}
PSD_PRIVATE: Final = frozenset({1008, 1028, 1033, 1035, 1036, 1054, 1058, 1059, PSD_XMP, 1061})
"""Image resources: caption, IPTC, thumbnails, URLs, EXIF, XMP, and the digest of the caption."""
MAX_FIELD_BYTES: Final = 4 << 20
"""A larger field is not read."""
EXIF_PREFIX: Final = b"Exif\0\0"


def free_box(file: bytearray, box: Part) -> None:
    """Turn a box into a `free` box of zeros; no byte is moved."""
    file[box.start + 4 : box.start + 8] = b"free"
    file[box.body : box.body_end] = bytes(box.body_end - box.body)


def remove_from_jp2(content: bytes, xmp: bytes | None) -> bytes:
    """Turn the outermost boxes with metadata into `free` boxes. `xmp` replaces the XMP packet if it fits."""
    file = bytearray(content)
    for box in isobmff.boxes(content, 0, len(content)):
        at = box.body + len(XMP_UUID)
        if xmp and content[box.body : at] == XMP_UUID and box.kind == b"uuid" and len(xmp) <= box.body_end - at:
            file[at : box.body_end] = xmp.ljust(box.body_end - at)
            xmp = None
        elif box.kind in JP2_PRIVATE:
            free_box(file, box)
    return bytes(file)


def remove_from_psd(content: bytes, xmp: bytes | None) -> bytes:
    """Remove the image resources with metadata, and add `xmp` as one of them if it is given.

    Raises:
        FileCorruptedError: the section of the resources is damaged.
    """
    start, end = _resource_section(content)
    kept = [content[part.start : part.end] for number, part in _resources(content) if number not in PSD_PRIVATE]
    if xmp:
        kept.append(struct.pack(">4sHHI", b"8BIM", PSD_XMP, 0, len(xmp)) + xmp + bytes(len(xmp) % 2))
    section = b"".join(kept)
    return content[: start - 4] + struct.pack(">I", len(section)) + section + content[end:]


def metadata_fields(content: Content, content_type: str) -> dict[str, bytes]:
    """Return XMP and EXIF of a JPEG 2000 or PSD file by the names of libvips' fields. Damaged metadata is left out."""
    fields = {}
    try:
        for name, start, end in _parts(content, content_type):
            if start < end <= start + MAX_FIELD_BYTES:
                body = bytes(content[start:end])
                fields[name] = body if name == "xmp-data" else EXIF_PREFIX + body.removeprefix(EXIF_PREFIX)
    except FileCorruptedError:
        pass
    return fields


def _parts(content: Content, content_type: str) -> Iterator[tuple[str, int, int]]:
    """Yield the field, the first and the last offset of each part of metadata in JP2_FIELDS or PSD_FIELDS."""
    if content_type == "image/jp2":
        for box in isobmff.boxes(content, 0, len(content)):
            at = box.body + len(XMP_UUID)
            name = JP2_FIELDS.get(bytes(content[box.body : at])) if box.kind == b"uuid" else None
            if name:
                yield name, at, box.body_end
    elif content_type == "image/vnd.adobe.photoshop":
        for number, part in _resources(content):
            if number in PSD_FIELDS:
                yield PSD_FIELDS[number], part.body, part.body_end


def _resource_section(content: Content) -> tuple[int, int]:
    """Return the offsets of the section of image resources, which follows the one of the colour table."""
    at = PSD_HEADER_BYTES + 4 + _number(content, PSD_HEADER_BYTES, 4) + 4
    return at, at + _number(content, at - 4, 4)


def _resources(content: Content) -> Iterator[tuple[int, Part]]:
    """Yield number and place of each image resource: signature, number, name, length, and data of an even length."""
    at, end = _resource_section(content)
    while at < end:
        body = at + 6 + (_number(content, at + 6, 1) + 2) // 2 * 2 + 4
        body_end = body + _number(content, body - 4, 4)
        following = body_end + (body_end - body) % 2
        if body_end > end:
            raise FileCorruptedError("an image resource goes beyond the end of its section")
        yield _number(content, at + 4, 2), Part(b"8BIM", at, body, body_end, min(following, end))
        at = following


def _number(content: Content, at: int, size: int) -> int:
    if at + size > len(content):
        raise FileCorruptedError("the image ends in the middle of its image resources")
    return int.from_bytes(content[at : at + size], "big")
