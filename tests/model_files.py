"""Samples of 3D models and splats beside those of `model_samples`, made without an encoder."""

import gzip
import io
import random
import struct
import zipfile
import zlib

NOISE = random.Random(1)  # noqa: S311 - sample data
CORNERS = [(at * 0.5, at % 2, 0.25 * at) for at in range(40)]
FACES = [(at, at + 1, at + 2) for at in range(38)]
FBX_FOOTER = bytes.fromhex("fabcab09d0c8d466b1 76fb831cf7267e".replace(" ", "")) + bytes(4)


def normal(face):
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (CORNERS[at] for at in face)
    ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
    n = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = sum(each * each for each in n) ** 0.5
    return tuple(each / length for each in n)


def stl_binary() -> bytes:
    triangles = (struct.pack("<12f2x", *normal(face), *(n for at in face for n in CORNERS[at])) for face in FACES)
    return b"solid strip in binary".ljust(80, b"\0") + struct.pack("<I", len(FACES)) + b"".join(triangles)


def stl_text() -> bytes:
    lines = ["solid strip"]
    for face in FACES:
        lines.append("facet normal {:.6f} {:.6f} {:.6f}".format(*normal(face)))
        lines += ["outer loop", *("vertex {:.6e} {:.6e} {:.6e}".format(*CORNERS[at]) for at in face)]
        lines += ["endloop", "endfacet"]
    return "\n".join([*lines, "endsolid strip", ""]).encode()


def mtl() -> bytes:
    return b"# made by hand\nnewmtl strip\nKa 0.1 0.1 0.1\nKd 0.8 0.2 0.2\nNs 32\nd 1.0\nillum 2\nmap_Kd strip.png\n"


def _string(text: bytes) -> bytes:
    return b"S" + struct.pack("<I", len(text)) + text


def _long(number: int) -> bytes:
    return b"L" + struct.pack("<q", number)


def _array(kind: str, values: list, *, packed: bool) -> bytes:
    content = struct.pack(f"<{len(values)}{kind}", *values)
    stored = zlib.compress(content) if packed else content
    return kind.encode() + struct.pack("<III", len(values), packed, len(stored)) + stored


def _node(at: int, name: bytes, properties: list[bytes], children: list, layout: str) -> bytes:
    """Return a node that begins at the offset `at`; children are (name, properties, children)."""
    header = struct.calcsize(layout)
    body = b"".join(properties)
    inner = b""
    start = at + header + len(name) + len(body)
    for child in children:
        inner += _node(start + len(inner), *child, layout)
    inner += bytes(header) if children else b""
    return struct.pack(layout, start + len(inner), len(properties), len(body), len(name)) + name + body + inner


def fbx_binary(version: int = 7400) -> bytes:
    layout = "<QQQB" if version >= 7500 else "<IIIB"
    positions = [number for corner in CORNERS for number in corner]
    polygons = [number for a, b, c in FACES for number in (a, b, -c - 1)]
    name = b"strip\0\x01Geometry"
    geometry = (
        b"Geometry",
        [_long(1), _string(name), _string(b"Mesh")],
        [
            (b"Vertices", [_array("d", positions, packed=True)], []),
            (b"PolygonVertexIndex", [_array("i", polygons, packed=False)], []),
        ],
    )
    model = (b"Model", [_long(2), _string(b"strip\0\x01Model"), _string(b"Mesh")], [])
    links = [(b"C", [_string(b"OO"), _long(1), _long(2)], []), (b"C", [_string(b"OO"), _long(2), _long(0)], [])]
    top = [
        (b"FBXHeaderExtension", [], [(b"FBXVersion", [b"I" + struct.pack("<i", version)], [])]),
        (b"Objects", [], [geometry, model]),
        (b"Connections", [], links),
    ]
    content = b"Kaydara FBX Binary  \0\x1a\0" + struct.pack("<I", version)
    for node in top:
        content += _node(len(content), *node, layout)
    content += bytes(struct.calcsize(layout)) + FBX_FOOTER
    content += bytes(-len(content) % 16 or 16) + struct.pack("<I", version) + bytes(120)
    return content + bytes.fromhex("f85a8c6adef5d97eece90ce3758f290b")


def fbx_text() -> bytes:
    positions = ",".join(f"{number:g}" for corner in CORNERS for number in corner)
    polygons = ",".join(f"{a},{b},{-c - 1}" for a, b, c in FACES)
    return f"""; FBX 7.4.0 project file
; ----------------------------------------------------
FBXHeaderExtension:  {{
\tFBXVersion: 7400
\tCreator: "a text; with {{ signs"
}}
Objects:  {{
\tGeometry: 1, "Geometry::strip", "Mesh" {{
\t\tVertices: *120 {{
\t\t\ta: {positions}
\t\t}}
\t\tPolygonVertexIndex: *114 {{
\t\t\ta: {polygons}
\t\t}}
\t}}
\tModel: 2, "Model::strip", "Mesh" {{
\t}}
}}
Connections:  {{
\tC: "OO",1,2
\tC: "OO",2,0
}}
""".encode()


def zipped(members: dict[str, bytes], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def usdz() -> bytes:
    points = ", ".join(f"({x}, {y}, {z})" for x, y, z in CORNERS)
    corners = ", ".join(str(at) for face in FACES for at in face)
    scene = f"""#usda 1.0
(
    defaultPrim = "strip"
)
def Mesh "strip"
{{
    int[] faceVertexCounts = [{", ".join("3" for _ in FACES)}]
    int[] faceVertexIndices = [{corners}]
    point3f[] points = [{points}]
}}
"""
    return zipped({"strip.usda": scene.encode(), "textures/a.png": NOISE.randbytes(300)}, zipfile.ZIP_STORED)


def three_mf() -> bytes:
    vertices = "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in CORNERS)
    triangles = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in FACES)
    model = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<model unit="millimeter" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"><resources>'
        f'<object id="1" type="model"><mesh><vertices>{vertices}</vertices><triangles>{triangles}</triangles></mesh>'
        '</object></resources><build><item objectid="1"/></build></model>'
    )
    types = (
        '<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>'
    )
    links = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship '
        'Target="/3D/3dmodel.model" Id="rel0" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>'
        "</Relationships>"
    )
    parts = {"[Content_Types].xml": types, "_rels/.rels": links, "3D/3dmodel.model": model}
    return zipped({name: text.encode() for name, text in parts.items()}, zipfile.ZIP_DEFLATED)


def splat() -> bytes:
    rotation = bytes((255, 128, 128, 128))
    colour = bytes((200, 100, 50, 255))
    return b"".join(struct.pack("<6f", *CORNERS[at % 40], 0.1, 0.2, 0.1) + colour + rotation for at in range(100))


def spz() -> bytes:
    header = struct.pack("<4sIIBBBB", b"NGSP", 2, 100, 1, 12, 0, 0)
    return gzip.compress(header + NOISE.randbytes(100 * (9 + 3 + 7 + 9)), mtime=0)
