"""The output of the test generation: a small picture as a `data:` URI, so that no source has to serve it."""

import base64
import os
import struct
import zlib
from typing import Any, Final

PICTURE_SIDE: Final = 16
"""Width and height in pixels."""
FILE_NAME: Final = "outlast-try.png"


def sample_output() -> dict[str, Any]:
    """Return an output with a picture of random pixels: no stored object has its bytes, so it must be uploaded."""
    url = f"data:image/png;base64,{base64.b64encode(random_png()).decode()}"
    return {"image": {"url": url, "content_type": "image/png", "file_name": FILE_NAME}}


def random_png() -> bytes:
    """Return a PNG of PICTURE_SIDE times PICTURE_SIDE pixels in random colours."""
    header = struct.pack(">IIBBBBB", PICTURE_SIDE, PICTURE_SIDE, 8, 2, 0, 0, 0)  # 8 bits, RGB
    pixels = b"".join(
        b"\0" + os.urandom(3 * PICTURE_SIDE) for _ in range(PICTURE_SIDE)
    )  # each row begins with its filter: none
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
