"""Distinguishes the formats that are ZIP files by the names of their first members (APPNOTE, 4.3.7)."""

import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

LOCAL_FILE: Final = b"PK\x03\x04"
EMPTY_ARCHIVE: Final = b"PK\x05\x06"
JAR_EXTRA: Final = b"\xfe\xca"
"""The id of the extra field that marks the first member of a Java archive."""
PICKLES: Final = b"data.pkl"
"""The suffix of the first member's name in PyTorch's weights, which are programs for Python's pickle."""
ARRAY: Final = b".npy"
SCENES: Final = (b".usd", b".usda", b".usdc")
PROGRAMS: Final = (b"META-INF/", b"AndroidManifest.xml", b"classes.dex", b"resources.arsc", b"Payload/")
"""Prefixes of the first member's name in Java, Android and iOS programs."""
PROGRAM: Final = "application/java-archive"
DOCUMENTS: Final = (
    *(b"[Content_Types].xml", b"_rels/", b"docProps/", b"customXml/", b"word/", b"xl/", b"ppt/", b"visio/"),  # OOXML
    *(b"mimetype", b"doc.kml"),  # OpenDocument and EPUB; KMZ
)
"""Prefixes of the first member's name in office documents, e-books and maps."""
MODEL_PART: Final = b".model"
PART_LISTS: Final = (b"[Content_Types].xml", b"_rels/.rels")
"""The members of an Open Packaging file that name the types of the others."""
MODEL_TYPE: Final = b"3dmanufacturing"
"""A word in the names of 3MF's types, which other Open Packaging files do not contain."""
MAX_LIST_BYTES: Final = 1 << 16
MAX_MEMBERS: Final = 16


class LocalFile(NamedTuple):
    """Fields of a member's local header, and as much of its packed content as is in the first bytes of the file."""

    name: bytes
    method: int
    extra: bytes
    packed: bytes


def zip_type(head: bytes) -> str | None:
    """Return the type of a ZIP file; None for other files, and for ZIP files that are pickled weights or documents."""
    if head[:4] == EMPTY_ARCHIVE:
        return "application/zip"
    members = list(_members(head))
    if not members:
        return None
    first = members[0]
    if first.name.startswith(PROGRAMS) or first.extra[:2] == JAR_EXTRA:
        return PROGRAM
    if any(_is_3mf(member) for member in members):
        return "model/3mf"
    if first.name.endswith(PICKLES) or first.name.startswith(DOCUMENTS):
        return None
    return _type_of(first)


def _members(head: bytes) -> Iterator[LocalFile]:
    """Yield the members whose headers are in the first bytes. One that does not declare its size is the last."""
    at = 0
    for _ in range(MAX_MEMBERS):
        if head[at : at + 4] != LOCAL_FILE or len(head) < at + 30:
            return
        flags, method = (int.from_bytes(head[at + field : at + field + 2], "little") for field in (6, 8))
        size = int.from_bytes(head[at + 18 : at + 22], "little")
        name = at + 30
        extra = name + int.from_bytes(head[at + 26 : at + 28], "little")
        body = extra + int.from_bytes(head[at + 28 : at + 30], "little")
        has_size = not flags & 8
        yield LocalFile(
            head[name:extra], method, head[extra:body], head[body : body + size] if has_size else head[body:]
        )
        if not has_size:
            return
        at = body + size


def _type_of(first: LocalFile) -> str:
    if first.name.lower().endswith(SCENES) and first.method == 0:
        return "model/vnd.usdz+zip"
    return "application/x-npz" if first.name.endswith(ARRAY) else "application/zip"


def _is_3mf(member: LocalFile) -> bool:
    if member.name.lower().startswith(b"3d/") and member.name.lower().endswith(MODEL_PART):
        return True
    if member.name not in PART_LISTS:
        return False
    if member.method == 0:
        return MODEL_TYPE in member.packed
    try:
        return MODEL_TYPE in zlib.decompressobj(-15).decompress(member.packed, MAX_LIST_BYTES)
    except zlib.error:
        return False
