"""safetensors: weights after a JSON header with the offsets of each tensor (https://github.com/huggingface/safetensors)."""

import json
import math
from typing import Any, Final

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media.formats import Content

LENGTH_BYTES: Final = 8
MAX_HEADER_BYTES: Final = 32 << 20
"""The format allows 100 MB; the headers of the largest models have a few MB."""
METADATA: Final = "__metadata__"
BITS: Final = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Bits of one number of a tensor, by the tensor's type."""


def check_content(content: Content) -> int:
    """Check that the tensors follow each other without a gap; return where the last one ends.

    Raises:
        FileCorruptedError: the header is damaged, a tensor's size does not fit its shape, or data is missing.
        DecoderLimitError: the header is larger than MAX_HEADER_BYTES.
    """
    size = int.from_bytes(content[:LENGTH_BYTES], "little")
    start = LENGTH_BYTES + size
    if start > len(content) or len(content) < LENGTH_BYTES:
        raise FileCorruptedError("the weights end in the middle of their header")
    if size > MAX_HEADER_BYTES:
        raise DecoderLimitError(f"the header of the weights has {size:,} bytes; {MAX_HEADER_BYTES:,} are allowed")
    try:
        header = _parse(content[LENGTH_BYTES:start])
        end = start + _check_tensors(header)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileCorruptedError(f"the header of the weights cannot be read: {error}"[:300]) from None
    if end > len(content):
        raise FileCorruptedError(f"the weights declare {end:,} bytes and have {len(content):,}")
    return end


def _parse(text: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    metadata = header.pop(METADATA, {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("a value of the metadata is no text")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _check_tensors(header: dict[str, Any]) -> int:
    """Check the tensors and return the size of all of them in bytes."""
    at = 0
    for start, end, name, tensor in sorted((*_offsets(tensor), name, tensor) for name, tensor in header.items()):
        bits = math.prod(_size(side) for side in tensor["shape"]) * BITS[tensor["dtype"]]
        if start != at or bits != 8 * (end - start):
            raise FileCorruptedError(f"the tensor {name[:80]!r} does not begin at {at:,} or does not fit its shape")
        at = end
    return at


def _offsets(tensor: dict[str, Any]) -> tuple[int, int]:
    start, end = tensor["data_offsets"]
    return _size(start), _size(end)


def _size(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 63:
        raise ValueError("a shape or an offset is no size")
    return number
