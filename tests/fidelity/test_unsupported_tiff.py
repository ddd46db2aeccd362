"""Kinds of TIFF that libvips does not decode: stored as they are if they are whole, and refused if they are damaged."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.codec.codec import Codec
from handlers.errors import FileCorruptedError
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fidelity.pictures import HEIGHT, WIDTH, chart, green_band, to_uint8, to_uint16
from tests.fidelity.rows_tiff import tiff

pytestmark = pytest.mark.slow

UNCOMPRESSED, OLD_JPEG, DEFLATE = 1, 6, 8
DATA_START = 8


def directory(data: bytes, fields: list[tuple[int, int, int, int]]) -> bytes:
    """Return a TIFF of one page: the data, then its directory of (tag, type, number, value)."""
    head = b"II*\0" + struct.pack("<I", DATA_START + len(data)) + data
    entries = b"".join(struct.pack("<HHII", *field) for field in fields)
    return head + struct.pack("<H", len(fields)) + entries + bytes(4)


def twelve_bits(samples: int, compression: int) -> bytes:
    """Return pixels of 12 bits, two of them in three bytes."""
    colours = to_uint16(chart() if samples == 3 else green_band(chart())).reshape(HEIGHT, -1) >> 4
    one, other = colours[:, ::2], colours[:, 1::2]
    pixels = np.dstack([one >> 4, (one & 15) << 4 | other >> 8, other & 255]).astype(np.uint8).tobytes()
    pixels = zlib.compress(pixels) if compression == DEFLATE else pixels
    padding = bytes(len(pixels) % 2)
    depths = DATA_START + len(pixels + padding) if samples == 3 else 12
    fields = [
        (256, 4, 1, WIDTH),
        (257, 4, 1, HEIGHT),
        (258, 3, samples, depths),
        (259, 3, 1, compression),
        (262, 3, 1, 2 if samples == 3 else 1),
        (273, 4, 1, DATA_START),
        (277, 3, 1, samples),
        (278, 4, 1, HEIGHT),
        (279, 4, 1, len(pixels)),
    ]
    return directory(pixels + padding + struct.pack("<3H", 12, 12, 12), fields)


def half_the_colours() -> bytes:
    """Return YCbCr of 12 bits, two brightnesses for each pair of colour samples: two samples a pixel."""
    data = bytes(WIDTH * HEIGHT * 3) + struct.pack("<3H", 12, 12, 12)
    fields = [
        (256, 4, 1, WIDTH),
        (257, 4, 1, HEIGHT),
        (258, 3, 3, DATA_START + len(data) - 6),
        (259, 3, 1, UNCOMPRESSED),
        (262, 3, 1, 6),
        (273, 4, 1, DATA_START),
        (277, 3, 1, 3),
        (278, 4, 1, HEIGHT),
        (279, 4, 1, len(data) - 6),
        (530, 3, 2, 2 | 1 << 16),
    ]
    return directory(data, fields)


def old_jpeg() -> bytes:
    """Return a TIFF of JPEG as TIFF 6.0 defined it: one stream, and no strips."""
    output = io.BytesIO()
    Image.fromarray(to_uint8(chart())).save(output, "JPEG", quality=90)
    stream = output.getvalue()
    data = stream + bytes(len(stream) % 2)
    fields = [
        (256, 4, 1, WIDTH),
        (257, 4, 1, HEIGHT),
        (258, 3, 3, DATA_START + len(data)),
        (259, 3, 1, OLD_JPEG),
        (262, 3, 1, 6),
        (277, 3, 1, 3),
        (512, 3, 1, 1),
        (513, 4, 1, DATA_START),
        (514, 4, 1, len(stream)),
    ]
    return directory(data + struct.pack("<3H", 8, 8, 8), fields)


def zstd() -> bytes:
    output = io.BytesIO()
    Image.fromarray(to_uint8(chart())).save(output, "TIFF", compression="zstd")
    return output.getvalue()


def lzma() -> bytes:
    return tiff(to_uint8(chart()), compression="lzma")


def separate_tiles() -> bytes:
    return tiff(np.moveaxis(to_uint8(chart()), 2, 0), planarconfig="separate", tile=(64, 64))


def middle_damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]


KINDS: dict[str, tuple[Callable[[], bytes], bool]] = {
    "12 bits, grey": (lambda: twelve_bits(1, UNCOMPRESSED), False),
    "12 bits, RGB": (lambda: twelve_bits(3, UNCOMPRESSED), False),
    "12 bits, RGB, deflated": (lambda: twelve_bits(3, DEFLATE), False),
    "12 bits, YCbCr with half the colours": (half_the_colours, False),
    "LZMA": (lzma, True),
    "ZSTD": (zstd, True),
    "tiles of single colours": (separate_tiles, True),
    "JPEG of TIFF 6.0": (old_jpeg, True),
    "64 bits": (lambda: tiff(green_band(chart()), "minisblack"), False),
}
"""The maker by kind, and whether Pillow shows it."""
DAMAGED: dict[str, Callable[[], bytes]] = {
    "12 bits, a byte too few": lambda: twelve_bits(3, UNCOMPRESSED).replace(
        struct.pack("<I", WIDTH * HEIGHT * 9 // 2), struct.pack("<I", WIDTH * HEIGHT * 9 // 2 - 1)
    ),
    "12 bits, deflated, damaged": lambda: middle_damaged(twelve_bits(3, DEFLATE)),
    "LZMA, damaged": lambda: middle_damaged(lzma()),
    "ZSTD, damaged": lambda: middle_damaged(zstd()),
    "LZMA, cut": lambda: lzma()[:-2000],
    "tiles, cut": lambda: separate_tiles()[:-2000],
}


@pytest.mark.parametrize("profile", [Profile(), Profile(format=ImageFormat.KEEP)], ids=["auto", "keep"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_kind_that_libvips_does_not_support_is_kept(
    codec: Codec, tmp_path: Path, kind: str, profile: Profile
) -> None:
    make, is_shown = KINDS[kind]
    source = tmp_path / "source"
    source.write_bytes(make())
    found = await codec.prepare(source, tmp_path / "prepared", "image/tiff", profile)
    assert (found.content_type, found.width, found.height, found.frames) == ("image/tiff", WIDTH, HEIGHT, 1)
    assert len(found.path.read_bytes()) == len(make())
    assert (found.thumbhash is not None) == is_shown


@pytest.mark.parametrize("kind", DAMAGED)
async def test_a_damaged_file_of_such_a_kind_is_corrupted(codec: Codec, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(DAMAGED[kind]())
    with pytest.raises(FileCorruptedError):
        await codec.prepare(source, tmp_path / "prepared", "image/tiff", Profile())
