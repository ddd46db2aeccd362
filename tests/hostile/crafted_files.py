"""Files built byte by byte: valid checksums, but sizes and counts that a test chooses."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

import pillow_heif
import pyvips

from tests.media_samples import video

PIECE = 1 << 20


def zeros(size: int) -> bytes:
    """Return a zlib stream of `size` zero bytes, about a thousandth as large. Copies one independent block."""
    whole, rest = divmod(size, PIECE)
    last = _deflated(rest) if rest else b""
    checksum = (size % 65521) << 16 | 1
    return b"\x78\xda" + _deflated(PIECE) * whole + last + b"\3\0" + struct.pack(">I", checksum)


def _deflated(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(bytes(size)) + packer.flush(zlib.Z_FULL_FLUSH)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(side: int, *extra: bytes, depth: int = 8, colour: int = 2, pixels: bytes | None = None) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    rows = zlib.compress(bytes(side * (1 + 3 * side)) if side < 100 else bytes(100))
    parts = [head, *extra, png_chunk(b"IDAT", rows if pixels is None else pixels), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def apng(frames: int) -> bytes:
    control = struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 10, 0, 0)
    return png(1, png_chunk(b"acTL", struct.pack(">II", frames, 0)), png_chunk(b"fcTL", control))


def gif(side: int, frames: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff" * 3 + frame * frames + b";"


def riff_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp(width: int, height: int, frames: int) -> bytes:
    still: bytes = pyvips.Image.black(1, 1, bands=3).webpsave_buffer(lossless=True)
    at = still.index(b"VP8L")
    image = riff_chunk(b"VP8L", still[at + 8 : at + 8 + int.from_bytes(still[at + 4 : at + 8], "little")])
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = riff_chunk(b"ANMF", bytes(12) + b"\x64\0\0\0" + image)
    body = riff_chunk(b"VP8X", b"\x02\0\0\0" + canvas) + riff_chunk(b"ANIM", bytes(6)) + frame * frames
    return riff_chunk(b"RIFF", b"WEBP" + body)


def with_size(content: bytes, marker: bytes, width: int, height: int, layout: str = ">II", skip: int = 4) -> bytes:
    """Overwrite width and height, `skip` bytes after each `marker`."""
    size_field, at = struct.pack(layout, width, height), content.find(marker)
    while at >= 0:
        place = at + len(marker) + skip
        content = content[:place] + size_field + content[place + len(size_field) :]
        at = content.find(marker, place)
    return content


def heif(compression: str) -> bytes:
    picture = pyvips.Image.black(64, 64, bands=3).copy(interpretation="srgb")
    if compression == "av1":
        return bytes(picture.heifsave_buffer(compression="av1", effort=0))
    output = io.BytesIO()
    pillow_heif.from_bytes("RGB", (64, 64), picture.write_to_memory()).save(output)
    return output.getvalue()


def jpeg(side: int) -> bytes:
    return with_size(bytes(pyvips.Image.black(64, 64, bands=3).jpegsave_buffer()), b"\xff\xc0", side, side, ">HH", 3)


def tiff(side: int, pages: int = 1, *, samples: int = 1, bits: int = 8, loops: bool = False, last: int = 0) -> bytes:
    """Return black pages, one directory each. `last`: the last page's side. `loops`: it links to the first page."""
    strip = zlib.compress(bytes(side * side)) if side < 100 else zlib.compress(bytes(100))
    arrays = struct.pack("<12H", *[bits] * 6, *[3 if bits > 16 else 1] * 6)
    start = 8 + len(arrays) + len(strip)

    def directory(side: int, following: int) -> bytes:
        fields = [
            (256, 4, 1, side),
            (257, 4, 1, side),
            (258, 3, samples, 8 if samples > 2 else bits),
            (259, 3, 1, 8),
            (262, 3, 1, 1 if samples == 1 else 2),
            (273, 4, 1, 8 + len(arrays)),
            (277, 3, 1, samples),
            (278, 4, 1, side),
            (279, 4, 1, len(strip)),
            (339, 3, samples, 20 if samples > 2 else 1),
        ]
        packed = b"".join(struct.pack("<HHII", *field) for field in fields)
        return struct.pack("<H", len(fields)) + packed + struct.pack("<I", following)

    size = len(directory(side, 0))
    nexts = [start + size * (at + 1) for at in range(pages - 1)]
    head = b"II*\0" + struct.pack("<I", start) + arrays + strip
    ending = directory(last or side, start if loops else 0)
    return head + b"".join(directory(side, at) for at in nexts) + ending


def zip_of(members: Iterator[tuple[str, bytes]]) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    return output.getvalue()


def nested_zip(levels: int) -> bytes:
    """Return an archive of ten archives, `levels` deep: 10^levels times 1 MiB."""
    content = bytes(1 << 20)
    for _ in range(levels):
        content = zip_of((str(at), content) for at in range(10))
    return content


def overlapping_zip(members: int) -> bytes:
    """Return an archive whose directory lists the same member many times, as David Fifield's zip bombs do."""
    one = zip_of(iter([("a", bytes(16 << 20))]))
    start = int.from_bytes(one[-6:-2], "little")
    entry = one[start:-22]
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, members, members, len(entry) * members, start, 0)
    return one[:start] + entry * members + end


def ply(rows: int) -> bytes:
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {rows}\nproperty list uint uchar x\nend_header\n"
    return head.encode() + bytes(1000)


def mp4(tracks: int) -> bytes:
    """Return a video with `tracks` copies of one track."""
    one = video("mp4", "libx264")
    at = one.index(b"moov") - 4
    moov = one[at : at + int.from_bytes(one[at : at + 4], "big")]
    place = moov.index(b"trak") - 4
    last = place + int.from_bytes(moov[place : place + 4], "big")
    content = moov[8:place] + moov[place:last] * tracks + moov[last:]
    return one[:at] + struct.pack(">I", 8 + len(content)) + b"moov" + content + one[at + len(moov) :]


def glb(size_field: int) -> bytes:
    return struct.pack("<4sIIII", b"glTF", 2, 20 + 100, size_field, 0x4E4F534A) + bytes(100)
