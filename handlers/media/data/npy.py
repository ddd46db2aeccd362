"""NPY, an array of NumPy: a header with type and shape, then the numbers. Arrays of pickled objects are refused.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import math
import re
from typing import Any, Final

from handlers.errors import FileCorruptedError, FileTypeNotSupportedError
from handlers.media.formats import Content

MAGIC: Final = b"\x93NUMPY"
LENGTH_OFFSET: Final = 8
LENGTH_BYTES: Final = {1: 2, 2: 4, 3: 4}
"""Bytes of the header's length by version."""
MAX_ARRAY_HEADER_BYTES: Final = 1 << 16
KEYS: Final = {"descr", "fortran_order", "shape"}
TYPE: Final = re.compile(r"[<>|=]?([?bBhHiIlLqQefdgFDuciSaUVmMO])(\d{0,9})(?:\[\w{1,12}(?:/\d{1,9})?\])?")
PYTHON_2_LONG: Final = re.compile(r"\b(\d+)L\b")
CHARACTER_BYTES: Final = 4
OBJECTS: Final = "O"
MAX_DEPTH: Final = 16
MAX_HEAD_BYTES: Final = 12 + MAX_ARRAY_HEADER_BYTES


def check_content(content: Content) -> int:
    """Check that the numbers of the declared shape are there; return where they end.

    Raises:
        FileCorruptedError: the header is damaged, or numbers are missing.
        FileTypeNotSupportedError: the array contains pickled objects.
    """
    end = declared_end(content[:MAX_HEAD_BYTES])
    if end > len(content):
        raise FileCorruptedError(f"the array declares {end:,} bytes and has {len(content):,}")
    return end


def declared_end(head: bytes) -> int:
    """Return the offset at which the array ends according to its header. Raises the errors of `check_content`."""
    width = LENGTH_BYTES.get(head[len(MAGIC)]) if head[: len(MAGIC)] == MAGIC and len(head) > LENGTH_OFFSET else None
    if width is None:
        raise FileCorruptedError("the array has no header of a known version")
    start = LENGTH_OFFSET + width
    size = int.from_bytes(head[LENGTH_OFFSET:start], "little")
    if start + size > len(head) or size > MAX_ARRAY_HEADER_BYTES:
        raise FileCorruptedError(f"the header of the array has {size:,} bytes, or is not complete")
    try:
        fields = ast.literal_eval(PYTHON_2_LONG.sub(r"\1", head[start : start + size].decode("utf-8").strip(" \t\n")))
        if not isinstance(fields, dict) or fields.keys() != KEYS or not isinstance(fields["fortran_order"], bool):
            raise ValueError("it lacks a field")  # noqa: TRY301 - translated like a header that Python cannot read
        return start + size + _count(fields["shape"]) * _item_bytes(fields["descr"])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise FileCorruptedError(f"the header of the array cannot be read: {error}"[:300]) from None


def _count(shape: object) -> int:
    if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError("the shape is not a tuple of sizes")
    return math.prod(shape)


def _item_bytes(kind: Any, depth: int = 0) -> int:  # noqa: ANN401 - from a file
    """Return the bytes of one item of a type. A type of several fields is a list of names, types and shapes."""
    if depth > MAX_DEPTH:
        raise ValueError("the type is nested too deeply")
    if isinstance(kind, list):
        if not kind or not all(isinstance(field, tuple) and len(field) in {2, 3} for field in kind):
            raise ValueError("a field of the type is damaged")
        return sum(_item_bytes(field[1], depth + 1) * (_count(_shape(field[2])) if field[2:] else 1) for field in kind)
    if isinstance(kind, tuple) and len(kind) == 2:  # noqa: PLR2004 - a type and a shape
        return _item_bytes(kind[0], depth + 1) * _count(_shape(kind[1]))
    found = TYPE.fullmatch(kind) if isinstance(kind, str) else None
    if found is None:
        raise ValueError("the type is not known")
    if found[1] == OBJECTS:
        raise FileTypeNotSupportedError("the array contains pickled Python objects, which are not stored")
    if not found[2] and found[1] != "?":
        raise ValueError("the type has no size")
    return int(found[2] or 1) * (CHARACTER_BYTES if found[1] == "U" else 1)


def _shape(shape: object) -> object:
    return (shape,) if isinstance(shape, int) else shape
