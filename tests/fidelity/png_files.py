"""PNG files written chunk by chunk, because no library writes all of these variants."""

import io
import struct
import zlib

import numpy as np
import pyvips
from PIL import Image

GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(picture: np.ndarray, kind: int, *chunks: bytes) -> bytes:
    """Return a PNG of colour type `kind` with additional chunks; the bit depth is that of the array."""
    height, width = picture.shape[:2]
    depth = picture.dtype.itemsize * 8
    lines = picture.astype(">u2" if depth == 16 else np.uint8).reshape(height, -1)
    body = b"".join(b"\0" + line.tobytes() for line in lines)
    head = struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def interlaced(picture: np.ndarray) -> bytes:
    """Return an Adam7 PNG written by libvips; Pillow cannot write one."""
    height, width = picture.shape[:2]
    image = pyvips.Image.new_from_memory(picture.tobytes(), width, height, 3, "uchar")
    return bytes(image.pngsave_buffer(interlace=True))
