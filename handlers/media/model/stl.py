"""STL, triangles without colours, in binary or as text (https://www.fabbers.com/tech/STL_Format)."""

import math
import re
import struct
from typing import Final

from handlers.detect.models import STL_COUNT_OFFSET, STL_HEADER_BYTES, STL_TRIANGLE_BYTES, is_stl_text
from handlers.detect.signatures import HEAD_BYTES
from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

VERTICES: Final = struct.Struct("<12x9f2x")
"""The corners of a triangle, without its normal, which some programs leave undefined."""
NUMBERS: Final = rb"(?:\s+[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?){3}\s+"
FACET: Final = re.compile(
    rb"\s*facet\s+normal(?:\s+\S+){3}\s+outer\s+loop\s+(?:vertex" + NUMBERS + rb"){3}endloop\s+endfacet\b",
    re.IGNORECASE,
)
SOLID: Final = re.compile(rb"\s*solid\b[^\r\n]*", re.IGNORECASE)
END: Final = re.compile(rb"\s*endsolid\b[^\r\n]*(?:\r?\n|\r)?", re.IGNORECASE)


def check_content(content: Content) -> int:
    """Check every triangle; return where the last one ends, or in text, where the last solid ends.

    Raises:
        FileCorruptedError: triangles are missing, a corner of binary STL is not finite, or there is no triangle.
    """
    return _check_text(content) if is_stl_text(content[:HEAD_BYTES]) else _check_binary(content)


def _check_binary(content: Content) -> int:
    if len(content) < STL_HEADER_BYTES:
        raise FileCorruptedError("the model ends in the middle of its header")
    count = int.from_bytes(content[STL_COUNT_OFFSET:STL_HEADER_BYTES], "little")
    end = STL_HEADER_BYTES + STL_TRIANGLE_BYTES * count
    if end > len(content) or count == 0:
        raise FileCorruptedError(f"the model declares {count:,} triangles, {end:,} bytes, and has {len(content):,}")
    if not math.isfinite(sum(map(sum, VERTICES.iter_unpack(memoryview(content)[STL_HEADER_BYTES:end])))):
        raise FileCorruptedError("a corner of the model is not finite")
    return end


def _check_text(content: Content) -> int:
    at = facets = 0
    while (solid := SOLID.match(content, at)) is not None:
        at = solid.end()
        while (facet := FACET.match(content, at)) is not None:
            at, facets = facet.end(), facets + 1
        end = END.match(content, at)
        if end is None:
            raise FileCorruptedError(f"the model has neither a triangle nor the end of its solid at byte {at:,}")
        at = end.end()
    if facets == 0:
        raise FileCorruptedError("the model has no triangle")
    return at
