"""Detects 3D models and splats: FBX, STL, MTL, SPZ and SPLAT.

Binary STL and SPLAT have no magic number. They are detected by the numbers in their first records: the normals of STL
and the rotations of SPLAT have the length 1, which is unlikely in other content.
"""

import math
import re
import struct
import zlib
from typing import Final

from handlers.detect.text import HEAD

FBX_MAGIC: Final = b"Kaydara FBX Binary  \0\x1a\0"
FBX_TEXT: Final = re.compile(rb"\s*(?:;[^\n]*\n\s*)*;\s*FBX \d|\s*(?:;[^\n]*\n\s*)*FBXHeaderExtension\s*:")
STL_COUNT_OFFSET: Final = 80
STL_HEADER_BYTES: Final = 84
STL_TRIANGLE_BYTES: Final = 50
STL_TRIANGLE: Final = struct.Struct("<12f2x")
STL_CHECKED: Final = 20
MAX_COORDINATE: Final = 1e12
NORMAL_LENGTHS: Final = (0.98, 1.02)
SPLAT: Final = struct.Struct("<6f8B")
"""Position, scale, colour with opacity, and rotation of a splat (https://github.com/antimatter15/splat)."""
SPLATS_CHECKED: Final = 16
ROTATION_LENGTHS: Final = (0.94, 1.06)
"""Range of the length of a rotation. It differs from 1 because each of the four numbers is rounded to a byte."""
GZIP: Final = b"\x1f\x8b\x08"
SPZ_MAGIC: Final = b"NGSP"


def fbx(head: bytes) -> str | None:
    """Detect binary FBX by its magic number, and FBX as text by its first comment or its FBXHeaderExtension node."""
    is_fbx = head.startswith(FBX_MAGIC) or (FBX_TEXT.match(head) is not None and b"\0" not in head[:HEAD])
    return "model/fbx" if is_fbx else None


def spz(head: bytes) -> str | None:
    """Detect Niantic's packed splats: gzip, and the magic number in what it unpacks to."""
    if not head.startswith(GZIP):
        return None
    try:
        return "model/spz" if zlib.decompressobj(31).decompress(head, 4) == SPZ_MAGIC else None
    except zlib.error:
        return None


def mtl(head: bytes) -> str | None:
    """Detect the materials of an OBJ model: `newmtl` is the first keyword."""
    if b"\0" in head[:HEAD]:
        return None
    lines = (line.split() for line in head[:HEAD].removeprefix(b"\xef\xbb\xbf").splitlines())
    first = next((words[0] for words in lines if words and not words[0].startswith(b"#")), None)
    return "model/mtl" if first == b"newmtl" else None


def is_stl_text(head: bytes) -> bool:
    """Whether the bytes begin an STL file in text. `solid` alone does not prove it: binary STL may begin so, too."""
    text = head[:HEAD].lstrip().lower()
    return text.startswith(b"solid") and b"\0" not in text and (b"facet" in text or b"endsolid" in text)


def stl(head: bytes) -> str | None:
    """Detect STL: text by its keywords, binary by its first STL_CHECKED triangles."""
    if is_stl_text(head):
        return "model/stl"
    count = int.from_bytes(head[STL_COUNT_OFFSET:STL_HEADER_BYTES], "little")
    available = min(count, (len(head) - STL_HEADER_BYTES) // STL_TRIANGLE_BYTES, STL_CHECKED)
    if available < 1:
        return None
    end = STL_HEADER_BYTES + available * STL_TRIANGLE_BYTES
    triangles = list(STL_TRIANGLE.iter_unpack(head[STL_HEADER_BYTES:end]))
    has_size = any(any(numbers[3:]) for numbers in triangles)
    return "model/stl" if has_size and all(map(_is_triangle, triangles)) else None


def _is_triangle(numbers: tuple[float, ...]) -> bool:
    """Whether the corners are coordinates, and the normal has the length 1, or 0 if it is not known."""
    if not all(abs(number) < MAX_COORDINATE for number in numbers):
        return False
    length = math.hypot(*numbers[:3])
    return length == 0 or NORMAL_LENGTHS[0] < length < NORMAL_LENGTHS[1]


def splat(head: bytes) -> str | None:
    """Detect SPLAT by its first SPLATS_CHECKED records: plausible positions, positive scales, rotations of length 1."""
    if len(head) < SPLAT.size * SPLATS_CHECKED:
        return None
    splats = SPLAT.iter_unpack(head[: SPLAT.size * SPLATS_CHECKED])
    return "model/splat" if all(map(_is_splat, splats)) else None


def _is_splat(numbers: tuple[float, ...]) -> bool:
    rotation = math.hypot(*((number - 128) / 128 for number in numbers[10:]))
    is_placed = all(abs(number) < MAX_COORDINATE for number in numbers[:3])
    has_size = all(0 < number < MAX_COORDINATE for number in numbers[3:6])
    return is_placed and has_size and ROTATION_LENGTHS[0] < rotation < ROTATION_LENGTHS[1]
