"""The metadata items of HEIC and AVIF, blanked where they lie: sizes stay, so no box needs to move."""

from handlers.media.metadata.heif_items import boxes, kinds, places

TEXT = {b"Exif", b"mime"}
SHORTEST_EXIF = b"\0\0\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
"""An EXIF item without a single tag. The picture is turned by `irot` and `imir`, never by EXIF."""


def scrub_boxes(content: bytes, xmp: bytes | None) -> bytes:
    """Blank the Exif and XMP items, and drop a C2PA manifest's box by calling it free space."""
    file = bytearray(content)
    for kind, start, end in boxes(content, 0, len(content)):
        if kind == content[start - 4 : start] == b"uuid":
            file[start - 4 : end] = b"free" + bytes(end - start)
        if kind == b"meta":
            _blank_items(file, start + 4, end, xmp or b"")
    return bytes(file)


def _blank_items(file: bytearray, start: int, end: int, xmp: bytes) -> None:
    found = {kind: (first, last) for kind, first, last in boxes(bytes(file), start, end)}
    inner = found.get(b"idat", (0, 0))[0]
    types = dict(kinds(bytes(file), *found[b"iinf"]))
    for item, method, extents in places(bytes(file), *found[b"iloc"]):
        kind = types.get(item)
        if kind not in TEXT or method > 1:
            continue
        said = SHORTEST_EXIF if kind == b"Exif" else xmp
        for offset, size in extents:
            place = offset + (inner if method == 1 else 0)
            if place + size > len(file):
                raise ValueError("an item lies beyond the end")
            filler = b"\0" if kind == b"Exif" else b" "
            file[place : place + size] = (said if len(said) <= size else b"").ljust(size, filler)
            said = b""
