"""Samples that need no encoder: 3D models, and archives of them."""

import base64
import io
import json
import random
import struct
import zipfile


def mesh() -> tuple[dict, bytes]:
    """Return a strip of triangles: the glTF document and its binary data."""
    corners = [(at * 0.5, at % 2, 0.25 * at) for at in range(40)]
    faces = [corner for at in range(38) for corner in (at, at + 1, at + 2)]
    positions = b"".join(struct.pack("<3f", *corner) for corner in corners)
    indices = struct.pack(f"<{len(faces)}H", *faces)
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 40, "type": "VEC3", "min": [0, 0, 0], "max": [20, 1, 10]},
            {"bufferView": 1, "componentType": 5123, "count": len(faces), "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": len(positions)},
            {"buffer": 0, "byteOffset": len(positions), "byteLength": len(indices)},
        ],
        "buffers": [{"byteLength": len(positions) + len(indices)}],
    }
    return document, positions + indices


def glb() -> bytes:
    document, binary = mesh()
    text = json.dumps(document).encode()
    chunks = b"".join(
        struct.pack("<I4s", len(padded), kind) + padded
        for kind, padded in (
            (b"JSON", text + b" " * (-len(text) % 4)),
            (b"BIN\0", binary + bytes(-len(binary) % 4)),
        )
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def gltf() -> bytes:
    document, binary = mesh()
    document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    return json.dumps(document).encode()


def obj() -> bytes:
    lines = ["# a strip", "o strip", *(f"v {at * 0.5} {at % 2} {at * 0.25}" for at in range(40))]
    return "\n".join([*lines, *(f"f {at} {at + 1} {at + 2}" for at in range(1, 39)), ""]).encode()


def ply(layout: str) -> bytes:
    head = (
        f"ply\nformat {layout} 1.0\nelement vertex 40\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 38\nproperty list uchar int vertex_indices\nend_header\n"
    )
    positions = [(at * 0.5, at % 2, at * 0.25) for at in range(40)]
    if layout == "ascii":
        rows = [*(f"{x} {y} {z}" for x, y, z in positions), *(f"3 {at} {at + 1} {at + 2}" for at in range(38)), ""]
        return (head + "\n".join(rows)).encode()
    order = "<" if "little" in layout else ">"
    vertices = b"".join(struct.pack(order + "3f", *position) for position in positions)
    return head.encode() + vertices + b"".join(struct.pack(order + "B3i", 3, at, at + 1, at + 2) for at in range(38))


def archive(method: int) -> bytes:
    buffer = io.BytesIO()
    noise = random.Random(1).randbytes(1500)  # noqa: S311 - sample data
    with zipfile.ZipFile(buffer, "w", method) as members:
        for name, content in {"mesh.obj": obj(), "textures/noise.bin": noise, "empty.txt": b""}.items():
            members.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()
