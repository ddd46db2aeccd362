"""FBX, Autodesk's format: nested nodes with properties, in binary or as text.

The binary format is not published; this follows https://code.blender.org/2013/08/fbx-binary-file-format-specification/.
"""

import array
import struct
import sys
import zlib
from dataclasses import dataclass
from typing import Final

from handlers.detect.models import FBX_MAGIC
from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media.archive import MAX_UNPACKED, PIECE_BYTES
from handlers.media.formats import Content
from handlers.media.model import fbx_text
from handlers.media.model.fbx_text import MAX_DEPTH, POLYGONS, POSITIONS

PROLOG_BYTES: Final = 27
"""The magic number and the version."""
WIDE_VERSION: Final = 7500
"""From this version on, the fields of a node's header have 64 bits."""
FOOTER: Final = bytes.fromhex("f85a8c6adef5d97eece90ce3758f290b")
MAX_FOOTER_BYTES: Final = 256
SCALARS: Final = {"C": 1, "B": 1, "Y": 2, "I": 4, "F": 4, "D": 8, "L": 8}
ARRAYS: Final = {"b": 1, "c": 1, "i": 4, "f": 4, "d": 8, "l": 8}
"""Bytes of a property with one value, and of one item of a property with an array, by the property's type."""
ARRAY_HEADER: Final = struct.Struct("<III")
NARROW, WIDE = struct.Struct("<IIIB"), struct.Struct("<QQQB")


@dataclass(slots=True)
class _Reader:
    content: Content
    header: struct.Struct
    unpacked: int = 0


def check_content(content: Content) -> int:
    """Check every node and property; return the end of the footer, or of the nodes if there is no footer.

    Raises:
        FileCorruptedError: a node or a property is damaged or incomplete, or there are no objects.
        DecoderLimitError: nodes are nested deeper than MAX_DEPTH, or arrays unpack to more than MAX_UNPACKED bytes.
    """
    if content[: len(FBX_MAGIC)] != FBX_MAGIC:
        return fbx_text.check_content(content)
    version = int.from_bytes(content[PROLOG_BYTES - 4 : PROLOG_BYTES], "little")
    reader = _Reader(content, WIDE if version >= WIDE_VERSION else NARROW)
    end, names = _check_nodes(reader, PROLOG_BYTES, len(content), depth=0)
    if b"Objects" not in names:
        raise FileCorruptedError("the model has no objects")
    footer = content.find(FOOTER, end, end + MAX_FOOTER_BYTES)
    return footer + len(FOOTER) if footer >= 0 else end


def _check_nodes(reader: _Reader, at: int, limit: int, depth: int) -> tuple[int, set[bytes]]:
    """Check the nodes of a list up to the empty header that ends it; return where it ends, and the nodes' names."""
    if depth > MAX_DEPTH:
        raise DecoderLimitError(f"the model's nodes are nested deeper than {MAX_DEPTH}")
    names: set[bytes] = set()
    arrays: dict[bytes, array.array[float]] = {}
    while True:
        start = at + reader.header.size
        if start > limit:
            raise FileCorruptedError(f"the model ends in the middle of a node, at byte {at:,}")
        end, count, properties, name_bytes = reader.header.unpack(reader.content[at:start])
        if end == 0:
            if count or properties or name_bytes:
                raise FileCorruptedError(f"the model has a damaged node at byte {at:,}")
            _check_corners(arrays)
            return start, names
        body = start + name_bytes
        name = bytes(reader.content[start:body])
        names.add(name)
        children = body + properties
        if children > end or end > limit:
            raise FileCorruptedError(f"the model's node at byte {at:,} goes beyond its end")
        _check_properties(reader, body, children, count)
        if name in {POSITIONS, POLYGONS}:
            arrays[name] = _read_array(reader.content[body:children])
        if children < end and _check_nodes(reader, children, end, depth + 1)[0] != end:
            raise FileCorruptedError(f"the children of the model's node at byte {at:,} do not fill it")
        at = end


def _check_properties(reader: _Reader, at: int, end: int, count: int) -> None:
    for _ in range(count):
        if at >= end:
            break
        kind = chr(reader.content[at])
        at += 1
        if kind in SCALARS:
            at += SCALARS[kind]
        elif kind in {"S", "R"}:
            at += 4 + int.from_bytes(reader.content[at : at + 4], "little")
        elif kind in ARRAYS:
            at = _check_array(reader, at, end, ARRAYS[kind])
        else:
            raise FileCorruptedError(f"the model has a property of the unknown type {kind!r}")
    else:
        if at == end:
            return
    raise FileCorruptedError(f"the properties of a node do not end at byte {end:,}")


def _check_array(reader: _Reader, at: int, end: int, item_bytes: int) -> int:
    """Check that an array has as many bytes as its items need, unpacked if it is packed; return where it ends."""
    body = at + ARRAY_HEADER.size
    if body > end:
        raise FileCorruptedError("the model ends in the middle of an array")
    items, is_packed, packed_bytes = ARRAY_HEADER.unpack(reader.content[at:body])
    size = items * item_bytes
    if is_packed > 1 or (not is_packed and packed_bytes != size):
        raise FileCorruptedError("an array of the model has no known encoding, or not the size of its numbers")
    if not is_packed:
        return int(body + size)
    reader.unpacked += size
    if reader.unpacked > MAX_UNPACKED:
        raise DecoderLimitError(f"the model's arrays unpack to more than {MAX_UNPACKED >> 20} MiB")
    _check_packed(reader.content[body : body + packed_bytes], size)
    return body + int(packed_bytes)


def _check_packed(packed: bytes, size: int) -> None:
    """Unpack an array piece by piece, and check that it has `size` bytes."""
    unpacker = zlib.decompressobj()
    length = 0
    try:
        while packed and length <= size:
            length += len(unpacker.decompress(packed, PIECE_BYTES))
            packed = unpacker.unconsumed_tail
    except zlib.error as error:
        raise FileCorruptedError(f"an array of the model cannot be unpacked: {error}") from None
    if length != size or not unpacker.eof:
        raise FileCorruptedError(f"an array of the model has {length:,} bytes instead of {size:,}")


def _read_array(field: bytes) -> "array.array[float]":
    """Return the numbers of an array that `_check_array` has checked; none for another property."""
    kind = field[:1].decode("latin-1")
    if kind not in {"i", "f", "d"}:
        return array.array("d")
    _, is_packed, size = ARRAY_HEADER.unpack(field[1 : 1 + ARRAY_HEADER.size])
    body = field[1 + ARRAY_HEADER.size :]
    numbers: array.array[float] = array.array(kind, zlib.decompress(body[:size]) if is_packed else body)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _check_corners(arrays: "dict[bytes, array.array[float]]") -> None:
    """Check that the faces of a mesh are complete and refer to its vertices."""
    corners = arrays.get(POLYGONS)
    if not corners:
        return
    vertices = len(arrays.get(POSITIONS, ())) // 3
    if max(corners) >= vertices or -1 - min(corners) >= vertices or corners[-1] >= 0:
        raise FileCorruptedError(
            f"a face of the model is not complete, or has a corner beyond its {vertices:,} vertices"
        )
