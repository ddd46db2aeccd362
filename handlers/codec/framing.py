"""Messages between a worker and its codec processes: JSON texts, each after its length.

Imported by both sides; keep imports light. The contents are described in `schemas/codec.py`.
"""

import struct
from typing import BinaryIO, Final

LENGTH: Final = struct.Struct("!I")
"""The length of a message in bytes, written before it."""
MAX_BYTES: Final = 1 << 20
"""The largest message."""
BEGUN: Final = b"+"
"""One byte that a codec process sends before it begins a request."""


class FrameError(ValueError):
    """A message is larger than `MAX_BYTES`."""


def frame(content: bytes) -> bytes:
    """Return the message with its length before it.

    Raises:
        FrameError: it is larger than `MAX_BYTES`.
    """
    check_length(len(content))
    return LENGTH.pack(len(content)) + content


def check_length(length: int) -> None:
    """Refuse a message that is too large, before memory is taken for it.

    Raises:
        FrameError: it is larger than `MAX_BYTES`.
    """
    if length > MAX_BYTES:
        raise FrameError(f"a message of {length:,} bytes is larger than {MAX_BYTES:,}")


def read_frame(file: BinaryIO) -> bytes | None:
    """Read one message from a trusted sender; None when it closed the connection."""
    header = file.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    check_length(length)
    content = file.read(length)
    return content if len(content) == length else None
