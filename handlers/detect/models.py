"""Detects 3D models and splats: FBX, STL, MTL, SPZ and SPLAT.

Binary STL and SPLAT have no magic number. They are detected by their first records, whose numbers agree with each other
in a way that other content does not: normals have the length 1, and so have the rotations of splats.
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
"""The rotation of a splat is rounded to bytes."""
GZIP: Final = b"\x1f\x8b\x08"
SPZ_MAGIC: Final = b"NGSP"


def fbx(head: bytes) -> str | None:
    """Detect FBX by its magic number, or by the comment or the node at the beginning of its text."""
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
    """Whether it is STL as text. Binary STL may begin with `solid` too."""
    text = head[:HEAD].lstrip().lower()
    return text.startswith(b"solid") and b"\0" not in text and (b"facet" in text or b"endsolid" in text)


def stl(head: bytes) -> str | None:
    """Detect STL as text, or in binary by its first triangles."""
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
    """Detect splats without a header: the first ones have finite positions, positive scales and rotations."""
    if len(head) < SPLAT.size * SPLATS_CHECKED:
        return None
    splats = SPLAT.iter_unpack(head[: SPLAT.size * SPLATS_CHECKED])
    return "model/splat" if all(map(_is_splat, splats)) else None


def _is_splat(numbers: tuple[float, ...]) -> bool:
    rotation = math.hypot(*((number - 128) / 128 for number in numbers[10:]))
    is_placed = all(abs(number) < MAX_COORDINATE for number in numbers[:3])
    has_size = all(0 < number < MAX_COORDINATE for number in numbers[3:6])
    return is_placed and has_size and ROTATION_LENGTHS[0] < rotation < ROTATION_LENGTHS[1]
