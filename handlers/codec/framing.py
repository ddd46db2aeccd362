"""Messages between a worker and its codec processes: JSON texts with their length before them.

Both sides import this module: keep its imports light. `schemas/codec.py` describes the contents.
"""

import struct
from typing import BinaryIO, Final

LENGTH: Final = struct.Struct("!I")
"""The length of a message in bytes, written before it."""
MAX_BYTES: Final = 1 << 20
"""Maximum length of a message."""
STARTED: Final = b"+"
"""The byte that a codec process sends before it performs a request."""


class FrameError(ValueError):
    """A message is longer than `MAX_BYTES`."""


def frame(content: bytes) -> bytes:
    """Return the message with its length before it.

    Raises:
        FrameError: it is longer than `MAX_BYTES`.
    """
    check_length(len(content))
    return LENGTH.pack(len(content)) + content


def check_length(length: int) -> None:
    """Refuse a message that is too long, before memory is allocated for it.

    Raises:
        FrameError: it is longer than `MAX_BYTES`.
    """
    if length > MAX_BYTES:
        raise FrameError(f"a message of {length:,} bytes exceeds the maximum of {MAX_BYTES:,}")


def read_frame(file: BinaryIO) -> bytes | None:
    """Read one message from a trusted sender; return None if the sender closed the connection.

    Raises:
        FrameError: it is longer than `MAX_BYTES`.
    """
    header = file.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    check_length(length)
    content = file.read(length)
    return content if len(content) == length else None
