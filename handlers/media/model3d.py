"""3D models: structure checked, stored as they are. Runs in a codec process."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from handlers.errors import FileCorruptedError
from handlers.media import Limits, Prepared
from handlers.media.describe import describe
from handlers.media.ply import check_ply
from schemas.jobs import Profile

GLB_HEADER: Final = struct.Struct("<4sII")
CHUNK_HEADER: Final = struct.Struct("<I4s")
OBJ_ELEMENTS: Final = frozenset({b"f", b"l", b"p", b"curv", b"surf"})
LONGEST_LINE: Final = 1 << 20


def prepare(
    source: Path,
    target: Path,  # noqa: ARG001 - nothing is written; every kind is called alike
    content_type: str,
    profile: Profile,  # noqa: ARG001 - the same
    limits: Limits,  # noqa: ARG001 - the same
) -> Prepared:
    """Validate a model. Raises FileCorruptedError where its structure is not whole."""
    CHECKS[content_type](source)
    return describe(source, content_type)


def check_glb(source: Path) -> None:
    """Check header, chunks and the declared buffer (glTF 2.0, 4.4)."""
    size = source.stat().st_size
    with source.open("rb") as file:
        magic, version, length = _unpack(GLB_HEADER, file.read(GLB_HEADER.size))
        if magic != b"glTF" or version != 2:  # noqa: PLR2004 - glTF 2.0
            raise FileCorruptedError(f"the model is not glTF 2.0 (version {version})")
        if length > size:
            raise FileCorruptedError(f"the model declares {length:,} bytes and has {size:,}")
        chunks = []
        while file.tell() < length:
            chunk, kind = _unpack(CHUNK_HEADER, file.read(CHUNK_HEADER.size))
            content = file.read(chunk) if kind == b"JSON" else b""
            file.seek(chunk - len(content), os.SEEK_CUR)
            if file.tell() > length:
                raise FileCorruptedError(f"the model's {kind!r} chunk goes beyond its end")
            chunks.append((kind, chunk, content))
    if not chunks or chunks[0][0] != b"JSON":
        raise FileCorruptedError("the model has no JSON chunk")
    document = _document(chunks[0][2])
    binary = next((chunk for kind, chunk, _ in chunks if kind == b"BIN\0"), 0)
    embedded = [buffer for buffer in document.get("buffers", [])[:1] if "uri" not in buffer]
    if any(buffer.get("byteLength", 0) > binary for buffer in embedded):
        raise FileCorruptedError(f"the model's buffer needs more than the {binary:,} bytes there are")


def check_gltf(source: Path) -> None:
    """Check that it is JSON with an asset; what it refers to lies elsewhere."""
    _document(source.read_bytes())


def check_obj(source: Path) -> None:
    """Check that there are vertices, and elements made of them."""
    vertices = elements = 0
    with source.open("rb") as file:
        for line in iter(lambda: file.readline(LONGEST_LINE), b""):
            words = line.split(maxsplit=4)
            if not words:
                continue
            if words[0] == b"v":
                _vertex(words, vertices + 1)
                vertices += 1
            elements += words[0] in OBJ_ELEMENTS
    if not vertices or not elements:
        raise FileCorruptedError(f"the model has {vertices} vertices and {elements} faces, lines or points")


def _vertex(words: list[bytes], number: int) -> None:
    try:
        x, y, z = (float(word) for word in words[1:4])
    except ValueError:
        raise FileCorruptedError(f"vertex {number} of the model has no three coordinates") from None
    if not all(abs(value) < float("inf") for value in (x, y, z)):
        raise FileCorruptedError(f"vertex {number} of the model is not finite")


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
        version = str(document["asset"]["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FileCorruptedError("the model's JSON cannot be read or has no asset version") from None
    if not version.startswith("2."):
        raise FileCorruptedError(f"the model is glTF {version}, not 2.0")
    buffers = document.get("buffers", [])
    if not isinstance(buffers, list) or not all(isinstance(buffer, dict) for buffer in buffers):
        raise FileCorruptedError("the model's buffers are no list of objects")
    return dict(document)


def _unpack(layout: struct.Struct, content: bytes) -> tuple[Any, ...]:
    if len(content) < layout.size:
        raise FileCorruptedError("the model ends in the middle of a header")
    return layout.unpack(content)


CHECKS: Final[dict[str, Callable[[Path], None]]] = {
    "model/gltf-binary": check_glb,
    "model/gltf+json": check_gltf,
    "model/obj": check_obj,
    "model/ply": check_ply,
}
