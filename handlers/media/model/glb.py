"""Binary glTF: a header with the length, a chunk of JSON, a chunk of data (glTF 2.0, 4.4)."""

import struct
from typing import Any, Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.model.gltf import check_document, parse_document

HEADER: Final = struct.Struct("<4sII")
CHUNK_HEADER: Final = struct.Struct("<I4s")
ALIGNMENT: Final = 4


def check_content(content: Content) -> int:
    """Check the chunks and the glTF document; return the end that the header declares.

    Raises:
        FileCorruptedError: it is not glTF 2.0, a chunk goes beyond the end, or the document is not valid.
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
        raise FileCorruptedError("the model does not have one JSON chunk and at most one BIN chunk")
    check_document(parse_document(chunks[0][1]), chunks[1][1] if chunks[1:] else b"")
    return int(length)


def _unpack(layout: struct.Struct, content: Content, at: int) -> tuple[Any, ...]:
    if len(content) < at + layout.size:
        raise FileCorruptedError("the model ends in the middle of a header")
    return layout.unpack(content[at : at + layout.size])
