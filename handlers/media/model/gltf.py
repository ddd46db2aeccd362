"""glTF 2.0: a JSON document whose parts refer to each other and to ranges of bytes by index (glTF 2.0, 3 and 5)."""

import base64
import json
import math
from collections.abc import Iterable
from typing import Any, Final, Literal

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

Document = dict[str, Any]

COMPONENTS: Final = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
"""Bytes of a component by the number of its type (glTF 2.0, 3.6.2.2)."""
SHAPES: Final = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
FLOAT: Final = 5126
TRIANGLES: Final = 4
INDEX_VIEWS: Final[dict[int, Literal["B", "H", "I"]]] = {5121: "B", 5123: "H", 5125: "I"}
REFERENCES: Final = (
    ("scene", "scenes"),
    ("scenes.*.nodes.*", "nodes"),
    ("nodes.*.children.*", "nodes"),
    ("nodes.*.mesh", "meshes"),
    ("nodes.*.skin", "skins"),
    ("nodes.*.camera", "cameras"),
    ("skins.*.joints.*", "nodes"),
    ("skins.*.inverseBindMatrices", "accessors"),
    ("meshes.*.primitives.*.attributes.*", "accessors"),
    ("meshes.*.primitives.*.indices", "accessors"),
    ("meshes.*.primitives.*.material", "materials"),
    ("meshes.*.primitives.*.targets.*.*", "accessors"),
    ("animations.*.samplers.*.input", "accessors"),
    ("animations.*.samplers.*.output", "accessors"),
    ("animations.*.channels.*.target.node", "nodes"),
    ("materials.*.pbrMetallicRoughness.baseColorTexture.index", "textures"),
    ("materials.*.pbrMetallicRoughness.metallicRoughnessTexture.index", "textures"),
    ("materials.*.normalTexture.index", "textures"),
    ("materials.*.occlusionTexture.index", "textures"),
    ("materials.*.emissiveTexture.index", "textures"),
    ("textures.*.source", "images"),
    ("textures.*.sampler", "samplers"),
    ("images.*.bufferView", "bufferViews"),
    ("accessors.*.bufferView", "bufferViews"),
    ("bufferViews.*.buffer", "buffers"),
    ("bufferViews.*.extensions.EXT_meshopt_compression.buffer", "buffers"),
    ("bufferViews.*.extensions.KHR_meshopt_compression.buffer", "buffers"),
)
"""The path of an index in the document, and the list to which the index refers (glTF 2.0, 5.1 to 5.29)."""

MESHOPT: Final = ("EXT_meshopt_compression", "KHR_meshopt_compression")
"""Extensions whose views are compressed ranges of another buffer. The view's own buffer need not have content."""
MESHOPT_HEADERS: Final = {"ATTRIBUTES": 0xA0, "TRIANGLES": 0xE0, "INDICES": 0xD0}
"""The upper four bits of the first compressed byte, by mode; the lower ones are a version."""


def check_content(content: Content) -> int:
    """Check the document and the buffers in it, not the files to which it refers; return the file size.

    Raises:
        FileCorruptedError: the document or a buffer is not valid.
    """
    check_document(parse_document(content[:]), b"")
    return len(content)


def parse_document(content: bytes) -> Document:
    """Parse the JSON, with or without a byte order mark. Raises FileCorruptedError if it is not glTF 2."""
    try:
        document = json.loads(content.decode("utf-8-sig"))
        version = str(document["asset"]["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FileCorruptedError("the model's JSON cannot be read or has no asset version") from None
    if not version.startswith("2."):
        raise FileCorruptedError(f"the model is glTF {version}, not 2.0")
    return dict(document)


def check_document(document: Document, binary: bytes) -> None:
    """Check that every index of REFERENCES exists in its list, and that every range of bytes lies in its buffer.

    Where the bytes of an accessor are known, floats that are stored without gaps must be finite, and indices must refer
    to existing vertices. `binary` is the content of the first buffer if that has no URI.

    Raises:
        FileCorruptedError: a check fails, or the document does not follow the schema of glTF.
    """
    try:
        for path, target in REFERENCES:
            _check_references(document, path, target)
        buffers = [_buffer(buffer, binary if at == 0 else b"") for at, buffer in enumerate(document.get("buffers", []))]
        views = [_view(view, buffers) for view in document.get("bufferViews", [])]
        for view in document.get("bufferViews", []):
            _check_compressed(view, buffers)
        for accessor in document.get("accessors", []):
            _check_accessor(accessor, document.get("bufferViews", []), views)
        if not all(mesh["primitives"] for mesh in document.get("meshes", [])):
            raise FileCorruptedError("a mesh of the model has no primitives")
        for primitive in _values_at(document, "meshes.*.primitives.*"):
            _check_indices(primitive, document.get("accessors", []), views)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise FileCorruptedError(
            f"the model's JSON does not follow the schema of glTF: {type(error).__name__}: {error}"
        ) from None


def _values_at(node: Any, path: str) -> Iterable[Any]:  # noqa: ANN401 - JSON
    """Yield the values at a path; an asterisk is every item of a list or every value of an object."""
    step, _, rest = path.partition(".")
    if step == "*":
        children = list(node.values()) if isinstance(node, dict) else node
    else:
        children = [node[step]] if step in node else []
    for item in children:
        if rest:
            yield from _values_at(item, rest)
        else:
            yield item


def _check_references(document: Document, path: str, target: str) -> None:
    targets = len(document.get(target, []))
    for index in _values_at(document, path):
        if not isinstance(index, int) or not 0 <= index < targets:
            raise FileCorruptedError(f"the model's {path} is {index!r}, and there are {targets} {target}")


def _buffer(buffer: Document, binary: bytes) -> bytes | int:
    """Return a buffer's bytes; only their number if they are in another file or result from decompression."""
    length, uri = buffer["byteLength"], buffer.get("uri")
    if uri is None and (_meshopt(buffer) or {}).get("fallback") is True:
        return int(length)
    if uri is None:
        content = binary
    elif uri.startswith("data:"):
        kind, _, encoded = uri.partition(",")
        content = base64.b64decode(encoded, validate=True) if kind.endswith(";base64") else b""
    else:
        return int(length)
    if not 0 < length <= len(content):
        raise FileCorruptedError(f"the model's buffer needs {length:,} bytes, and there are {len(content):,}")
    return content[:length]


def _view(view: Document, buffers: list[bytes | int]) -> bytes | int:
    """Return a view's bytes; only their number if only the number of its buffer's bytes is known."""
    start, length, buffer = view.get("byteOffset", 0), view["byteLength"], buffers[view["buffer"]]
    size = buffer if isinstance(buffer, int) else len(buffer)
    if start < 0 or length < 1 or start + length > size:
        raise FileCorruptedError(f"the model's view of {length:,} bytes at {start:,} goes beyond its buffer's {size:,}")
    return int(length) if isinstance(buffer, int) else buffer[start : start + length]


def _meshopt(item: Document) -> Document | None:
    """Return the fields of the compression extension of a buffer or a view; None if it has none."""
    return next((item["extensions"][name] for name in MESHOPT if name in item.get("extensions", {})), None)


def _check_compressed(view: Document, buffers: list[bytes | int]) -> None:
    """Check that the compressed range of a view lies in its buffer, has its header, and yields the view's length."""
    compressed = _meshopt(view)
    if compressed is None:
        return
    source = _view(compressed, buffers)
    if compressed["count"] * compressed["byteStride"] != view["byteLength"]:
        raise FileCorruptedError(f"the model's view of {view['byteLength']:,} bytes is compressed from another number")
    if isinstance(source, bytes) and source[0] & 0xF0 != MESHOPT_HEADERS[compressed["mode"]]:
        raise FileCorruptedError(f"the model's compressed view has no {compressed['mode']} header")


def _check_accessor(accessor: Document, views: list[Document], contents: list[bytes | int]) -> None:
    item_bytes = COMPONENTS[accessor["componentType"]] * SHAPES[accessor["type"]]
    start, count = accessor.get("byteOffset", 0), accessor["count"]
    if start < 0 or count < 1:
        raise FileCorruptedError(f"the model has an accessor of {count:,} items at {start:,}")
    if "bufferView" not in accessor:
        return  # zeros, or data of an extension
    at = accessor["bufferView"]
    content = contents[at]
    size = content if isinstance(content, int) else len(content)
    stride = views[at].get("byteStride", item_bytes)
    if start + stride * (count - 1) + item_bytes > size:
        raise FileCorruptedError(f"the model's accessor of {count:,} items goes beyond its view's {size:,} bytes")
    if accessor["componentType"] == FLOAT and stride == item_bytes and not isinstance(content, int):
        numbers = memoryview(content[start : start + item_bytes * count]).cast("f")
        if not math.isfinite(sum(numbers)):  # the sum is not finite if any number is not
            raise FileCorruptedError(f"the model's accessor of {count:,} items has numbers that are not finite")


def _check_indices(primitive: Document, accessors: list[Document], views: list[bytes | int]) -> None:
    """Check that the number of indices fits the faces, and that each index refers to an existing vertex."""
    positions = accessors[primitive["attributes"]["POSITION"]]
    if positions["type"] != "VEC3":
        raise FileCorruptedError(f"the model's vertex positions are {positions['type']}, not VEC3")
    count = accessors[primitive["indices"]]["count"] if "indices" in primitive else positions["count"]
    if primitive.get("mode", TRIANGLES) == TRIANGLES and count % 3:
        raise FileCorruptedError(f"the model's triangles have {count:,} corners, which is not a multiple of 3")
    if "indices" not in primitive:
        return
    accessor, vertices = accessors[primitive["indices"]], positions["count"]
    if accessor["type"] != "SCALAR":
        raise FileCorruptedError(f"the model's vertex indices are {accessor['type']}, not SCALAR")
    view = views[accessor["bufferView"]] if "bufferView" in accessor else 0
    if isinstance(view, int):
        return
    start, size = accessor.get("byteOffset", 0), COMPONENTS[accessor["componentType"]]
    content = view[start : start + size * accessor["count"]]
    if max(memoryview(content).cast(INDEX_VIEWS[accessor["componentType"]])) >= vertices:
        raise FileCorruptedError(f"a face of the model has a corner beyond its {vertices:,} vertices")
