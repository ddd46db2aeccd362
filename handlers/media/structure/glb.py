"""Binary glTF: a header that tells the length, a chunk of JSON, a chunk of data (glTF 2.0, 4.4)."""

import struct
from typing import Any, Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content
from handlers.media.structure.gltf import check_document, document_of

HEADER: Final = struct.Struct("<4sII")
CHUNK_HEADER: Final = struct.Struct("<I4s")
ALIGNMENT: Final = 4


def end(content: Content) -> int:
    """Return where the model says that it ends.

    Raises:
        FileCorruptedError: it is no glTF 2.0, a chunk goes beyond the end, or its parts do not fit together.
    """
    magic, version, length = _unpack(HEADER, content, 0)
    if magic != b"glTF" or version != 2:  # noqa: PLR2004 - glTF 2.0
        raise FileCorruptedError(f"the model is not glTF 2.0 (version {version})")
    if length > len(content):
        raise FileCorruptedError(f"the model declares {length:,} bytes and has {len(content):,}")
    chunks: list[tuple[bytes, bytes]] = []
    at = HEADER.size
    while at < length:
        size, kind = _unpack(CHUNK_HEADER, content, at)
        at += CHUNK_HEADER.size + size
        if at > length or size % ALIGNMENT:
            raise FileCorruptedError(f"the model's {kind!r} chunk goes beyond its end")
        if kind in {b"JSON", b"BIN\0"}:
            chunks.append((kind, bytes(content[at - size : at])))
    if [kind for kind, _ in chunks] not in ([b"JSON"], [b"JSON", b"BIN\0"]):
        raise FileCorruptedError("the model has no JSON chunk, or one too many")
    check_document(document_of(chunks[0][1]), chunks[1][1] if chunks[1:] else b"")
    return int(length)


def _unpack(layout: struct.Struct, content: Content, at: int) -> tuple[Any, ...]:
    if len(content) < at + layout.size:
        raise FileCorruptedError("the model ends in the middle of a header")
    return layout.unpack(content[at : at + layout.size])
