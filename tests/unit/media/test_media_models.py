import json
import struct
from pathlib import Path

import pytest

from handlers.errors import FileCorruptedError
from handlers.media.formats import check_structure
from tests.media_samples import media_sample

ASSET = {"asset": {"version": "2.0"}}
PLY = "ply\nformat {} 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n{}end_header\n"
FACES = "element face 2\nproperty list uchar int vertex_indices\n"
TWO_LISTS = FACES + FACES.split("\n")[1].replace("indices", "index") + "\n"
ROWS = struct.pack("<9f", *range(9)) + struct.pack("<B3i", 3, 0, 1, 2) + struct.pack("<B4i", 4, 0, 1, 2, 0)


def glb(document: object, binary: bytes = b"", *, version: int = 2, missing: int = 0) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if binary:
        chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", version, 12 + len(chunks) + missing) + chunks


def ply(layout: str, rows: bytes, faces: str = FACES) -> bytes:
    return PLY.format(layout, faces).encode() + rows


def sample(name: str, before: bytes, after: bytes) -> bytes:
    content = media_sample(name).content
    assert content.count(before) > 0
    return content.replace(before, after, 1)


def meshopt(extension: str = "EXT_meshopt_compression", **changes: object) -> bytes:
    """Return a model of three compressed vertices, as gltfpack writes it: 36 bytes made of 16."""
    compressed = {"buffer": 0, "byteOffset": 4, "byteLength": 16, "byteStride": 12, "count": 3, "mode": "ATTRIBUTES"}
    document = ASSET | {
        "extensionsUsed": [extension],
        "extensionsRequired": [extension],
        "buffers": [{"byteLength": 20}, {"byteLength": 36, "extensions": {extension: {"fallback": True}}}],
        "bufferViews": [{"buffer": 1, "byteLength": 36, "extensions": {extension: compressed | changes}}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
    }
    return glb(document, bytes(4) + b"\xa0" + bytes(15))


VALID = {
    "glb compressed by meshopt": ("model/gltf-binary", meshopt()),
    "glb compressed by meshopt, by the extension's later name": (
        "model/gltf-binary",
        meshopt("KHR_meshopt_compression"),
    ),
    "obj of points": ("model/obj", b"# Vertices: 2\nv 0 0 0\nv 1 0 0.5 255 0 0\nvn 0 0 1\n"),
    "glb": ("model/gltf-binary", glb(ASSET | {"buffers": [{"byteLength": 4}]}, bytes(4))),
    "glb without binary": ("model/gltf-binary", glb(ASSET)),
    "gltf": ("model/gltf+json", json.dumps(ASSET | {"buffers": [{"uri": "a.bin", "byteLength": 9}]}).encode()),
    "obj": ("model/obj", b"v 0 0 0\nv 1 0 0 0.5 0.5 0.5\nv 0 1 0\nf 1 2 3\n"),
    "ply in text": ("model/ply", ply("ascii", b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n3 2 1 0\n")),
    "ply": ("model/ply", ply("binary_little_endian", ROWS)),
    "ply of points": ("model/ply", ply("binary_big_endian", bytes(36), faces="")),
}
DAMAGED = {
    "glb cut": ("model/gltf-binary", glb(ASSET, bytes(400))[:-100], "declares"),
    "glb cut in its header": ("model/gltf-binary", glb(ASSET)[:9], "header"),
    "glb with a chunk too long": ("model/gltf-binary", glb(ASSET)[:12] + b"\xff\xff\0\0JSON" + glb(ASSET)[20:], "end"),
    "glb with a buffer too long": (
        "model/gltf-binary",
        glb(ASSET | {"buffers": [{"byteLength": 9}]}, bytes(4)),
        "buff",
    ),
    "glb of version 1": ("model/gltf-binary", glb(ASSET, version=1), "not model/gltf-binary"),
    "glb of nonsense": ("model/gltf-binary", glb([1, 2]), "JSON"),
    "gltf cut": ("model/gltf+json", json.dumps(ASSET).encode()[:-2], "JSON"),
    "gltf of version 1": ("model/gltf+json", b'{"asset": {"version": "1.0"}}', "1.0"),
    "gltf with odd buffers": ("model/gltf+json", json.dumps(ASSET | {"buffers": [3]}).encode(), "schema of glTF"),
    "gltf with a buffer of infinite length": (
        "model/gltf+json",
        b'{"asset": {"version": "2.0"}, "buffers": [{"uri": "a.bin", "byteLength": 1e999}]}',
        "schema of glTF",
    ),
    "gltf that refers to nothing": ("model/gltf+json", json.dumps(ASSET | {"scene": 0}).encode(), "there are 0 scenes"),
    "gltf that is not UTF-8": ("model/gltf+json", json.dumps(ASSET).encode() + b"\xed\xa0\x80", "JSON"),
    "glb with a corner beyond its vertices": (
        "model/gltf-binary",
        sample("glb", b"\x25\0\x26\0", b"\x25\0\xff\0"),
        "corner",
    ),
    "glb with a coordinate that is not a number": (
        "model/gltf-binary",
        sample("glb", b"\0\0\x98\x41", b"\0\0\xc0\x7f"),
        "finite",
    ),
    "glb with a view beyond its buffer": (
        "model/gltf-binary",
        sample("glb", b'"byteLength": 228', b'"byteLength": 229'),
        "beyond its buffer",
    ),
    "glb with an accessor beyond its view": (
        "model/gltf-binary",
        sample("glb", b'"count": 40', b'"count": 41'),
        "view",
    ),
    "glb with a compressed view beyond its buffer": ("model/gltf-binary", meshopt(byteLength=17), "beyond its buffer"),
    "glb with a compressed view of another length": ("model/gltf-binary", meshopt(count=4), "another number"),
    "glb with a compressed view of other data": ("model/gltf-binary", meshopt(mode="INDICES"), "no INDICES header"),
    "glb with a compressed view of no buffer": ("model/gltf-binary", meshopt(buffer=2), "there are 2 buffers"),
    "obj with a line of another format": ("model/obj", b"v 0 0 0\nf 1 1 1\n<html>\n", "line 3"),
    "obj with a corner beyond its vertices": ("model/obj", b"v 0 0 0\nf 1 1 2\n", "corner 2"),
    "obj with a face of two corners": ("model/obj", b"v 0 0 0\nf 1 1\n", "too few corners"),
    "obj cut before its faces": ("model/obj", b"o mesh\nv 0 0 0\nv 1 0 0\n", "0 faces"),
    "obj of texture coordinates only": ("model/obj", b"mtllib a.mtl\nvt 0 0\nvt 1 0\n", "0 vertices"),
    "obj cut in a vertex": ("model/obj", b"f 1 1 1\nv 0 0 0\nv 1 0", "vertex 2"),
    "obj that is not finite": ("model/obj", b"f 1 1 1\nv 0 0 nan\n", "vertex 1"),
    "ply cut in its header": ("model/ply", PLY.encode()[:60], "no end"),
    "ply in text, cut": ("model/ply", ply("ascii", b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"), "2 face rows"),
    "ply cut in its vertices": ("model/ply", ply("binary_little_endian", ROWS[:30]), "vertex"),
    "ply cut in its faces": ("model/ply", ply("binary_little_endian", ROWS[:-1]), "face"),
    "ply with a corner beyond its vertices": (
        "model/ply",
        ply("binary_little_endian", ROWS.replace(struct.pack("<3i", 0, 1, 2), struct.pack("<3i", 0, 1, 3), 1)),
        "vertices",
    ),
    "ply with a coordinate that is not a number": (
        "model/ply",
        ply("binary_little_endian", ROWS.replace(struct.pack("<f", 8), b"\0\0\xc0\x7f")),
        "finite",
    ),
    "ply in text with a number too many": ("model/ply", ply("ascii", b"0 0 0\n1 0 0 0\n"), "4 numbers instead of 3"),
    "ply in text with a wrong corner in the first of two lists": (
        "model/ply",
        ply("ascii", b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2 3 0 1 2\n3 9 9 9 3 0 1 2\n", TWO_LISTS),
        "beyond its 3 vertices",
    ),
    "ply in text with a wrong corner in the second of two lists": (
        "model/ply",
        ply("ascii", b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2 3 0 1 2\n3 0 1 2 3 9 9 9\n", TWO_LISTS),
        "beyond its 3 vertices",
    ),
    "ply with a wrong corner in the first of two lists": (
        "model/ply",
        ply(
            "binary_little_endian",
            ROWS[:36] + struct.pack("<B3iB3i", 3, 0, 1, 2, 3, 0, 1, 2) + struct.pack("<B3iB3i", 3, 9, 9, 9, 3, 0, 1, 2),
            TWO_LISTS,
        ),
        "beyond its 3 vertices",
    ),
    "ply without vertices": ("model/ply", ply("ascii", b"").replace(b"vertex 3", b"vertex 0"), "no vertices"),
    "ply of an unknown type": ("model/ply", ply("ascii", b"").replace(b"float x", b"quad x"), "header"),
}


@pytest.mark.parametrize("name", VALID)
def test_valid_model_ends_at_its_size(tmp_path: Path, name: str) -> None:
    content_type, content = VALID[name]
    source = tmp_path / "model"
    source.write_bytes(content)
    assert check_structure(source, content_type) == len(content)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_model_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    content_type, content, why = DAMAGED[name]
    source = tmp_path / "model"
    source.write_bytes(content)
    with pytest.raises(FileCorruptedError, match=why):
        check_structure(source, content_type)
