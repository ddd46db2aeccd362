"""Animations assembled frame by frame: frames smaller than their canvas, with every way to place and to remove them."""

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

from handlers.media.formats import gif, png, riff
from tests.fidelity.png_files import chunk


@dataclass(frozen=True)
class Piece:
    """A frame: RGBA, where it is placed, the milliseconds, and how it is removed and blended, in the format's terms."""

    picture: np.ndarray
    x: int = 0
    y: int = 0
    milliseconds: int = 100
    disposal: int = 0
    blend: int = 1


def saved(picture: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def gif_of(size: tuple[int, int], pieces: list[Piece], *, plays: int | None = 0, background: int = 0) -> bytes:
    """Return a GIF; `disposal` 0 to 3 (GIF89a, 23). Each frame has a colour table; colour 255 is transparent."""
    loop = b"" if plays is None else b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", plays) + b"\0"
    table = bytes([200, 30, 200]) + bytes(3 * 255)
    parts = [b"GIF89a", struct.pack("<HHBBB", *size, 0xF7, background, 0), table, loop]
    for piece in pieces:
        content = _gif_still(piece.picture)
        [frame] = gif.frames(content)
        height, width = piece.picture.shape[:2]
        parts += [
            struct.pack("<BBBBHBB", 0x21, 0xF9, 4, piece.disposal << 2 | 1, piece.milliseconds // 10, 255, 0),
            struct.pack("<BHHHHB", 0x2C, piece.x, piece.y, width, height, 0x87),
            content[13 : 13 + 768],
            bytes([frame.code_bits]) + frame.data,
        ]
    return b"".join([*parts, b";"])


def _gif_still(picture: np.ndarray) -> bytes:
    image = Image.fromarray(picture[..., :3]).quantize(255, dither=Image.Dither.NONE)
    indexes = np.where(picture[..., 3] < 128, 255, np.asarray(image)).astype(np.uint8)
    palette = (image.getpalette() or [])[: 3 * 255]
    flat = Image.frombytes("P", image.size, indexes.tobytes())
    flat.putpalette(palette + [0] * (768 - len(palette)))
    buffer = io.BytesIO()
    flat.save(buffer, "GIF", optimize=False, interlace=False)
    return buffer.getvalue()


def webp_of(size: tuple[int, int], pieces: list[Piece], *, plays: int = 0, background: int = 0) -> bytes:
    """Return an animated WebP; `disposal` 1 clears the frame's area, `blend` 0 replaces it (RFC 9649, 2.7.1.1)."""
    width, height = size
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    parts = [riff.encode_chunk(b"VP8X", bytes([0x12, 0, 0, 0]) + canvas)]
    parts.append(riff.encode_chunk(b"ANIM", struct.pack("<IH", background, plays)))
    for piece in pieces:
        content = saved(piece.picture, "WEBP", lossless=True, exact=True, method=0)
        chunks = [each for each in riff.chunks(content, 12, len(content)) if each.kind in {b"VP8L", b"VP8 ", b"ALPH"}]
        numbers = (piece.x // 2, piece.y // 2, piece.picture.shape[1] - 1, piece.picture.shape[0] - 1)
        fields = b"".join(number.to_bytes(3, "little") for number in (*numbers, piece.milliseconds))
        flags = bytes([(piece.blend == 0) << 1 | piece.disposal])
        body = b"".join(riff.encode_chunk(each.kind, content[each.body : each.body_end]) for each in chunks)
        parts.append(riff.encode_chunk(b"ANMF", fields + flags + body))
    content = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def apng_of(size: tuple[int, int], pieces: list[Piece], *, hidden: np.ndarray | None = None, plays: int = 0) -> bytes:
    """Return an APNG; `disposal` and `blend` as in PNG, 11.3.6.2. `hidden`: a default image that is not a frame."""
    parts = [png.SIGNATURE, chunk(b"IHDR", struct.pack(">2I5B", *size, 8, 6, 0, 0, 0))]
    parts.append(chunk(b"acTL", struct.pack(">II", len(pieces), plays)))
    sequence = 0
    if hidden is not None:
        parts.append(chunk(b"IDAT", _packed_png(hidden)))
    for at, piece in enumerate(pieces):
        height, width = piece.picture.shape[:2]
        place = (width, height, piece.x, piece.y, piece.milliseconds, 1000, piece.disposal, piece.blend)
        parts.append(chunk(b"fcTL", struct.pack(">5I2H2B", sequence, *place)))
        sequence += 1
        data = _packed_png(piece.picture)
        if at == 0 and hidden is None:
            parts.append(chunk(b"IDAT", data))
        else:
            parts.append(chunk(b"fdAT", struct.pack(">I", sequence) + data))
            sequence += 1
    return b"".join([*parts, chunk(b"IEND", b"")])


def _packed_png(picture: np.ndarray) -> bytes:
    content = saved(picture, "PNG")
    return b"".join(content[each.body : each.body_end] for each in png.chunks(content) if each.kind == b"IDAT")
