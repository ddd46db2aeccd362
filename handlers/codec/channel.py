"""The worker's end of the connection to a codec process, which is not trusted.

Reads are limited in size, before memory is allocated, and in total time.
"""

import select
import socket
import time
from typing import Final

from handlers.codec.framing import LENGTH, STARTED, FrameError, check_length, frame
from handlers.codec.request import InvalidAnswerError

PIECE_BYTES: Final = 1 << 16
MIN_SECONDS: Final = 1e-6
"""The shortest timeout: with 0 the socket would raise BlockingIOError."""


class Channel:
    """Sends requests and reads answers. For one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = bytearray()
        self._deadline = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing was received since the last answer, and the connection is open."""
        return not self._received and not is_readable(self._socket.fileno(), 0)

    def send(self, request: bytes, seconds: float) -> None:
        """Send a request. Sending, `wait_until_started` and `read_answer` may take this many seconds together.

        Raises:
            TimeoutError: the process does not read the request in time.
            OSError: the process has ended.
        """
        self._deadline = time.monotonic() + seconds
        self._socket.settimeout(seconds)
        self._socket.sendall(frame(request))

    def wait_until_started(self) -> bool:
        """Wait until the process starts the request; return False if it closed the connection instead.

        Raises:
            TimeoutError: the process does not start the request in time.
            InvalidAnswerError: the process sent another byte than STARTED.
        """
        received = self._receive(len(STARTED))
        if received and received != STARTED:
            raise InvalidAnswerError(f"it begins with {received!r} instead of {STARTED!r}")
        return bool(received)

    def read_answer(self) -> bytes:
        """Read one answer; return b"" if the process closed the connection instead.

        Raises:
            TimeoutError: the answer does not arrive in time.
            InvalidAnswerError: the answer is empty, too long or incomplete, or other bytes follow.
        """
        header = self._receive(LENGTH.size)
        if not header:
            return b""
        (length,) = LENGTH.unpack(header)
        try:
            check_length(length)
        except FrameError as error:
            raise InvalidAnswerError(str(error)) from None
        content = self._receive(length)
        if not content:
            raise InvalidAnswerError(f"it has no content, though its length is {length:,}")
        if self._received:
            raise InvalidAnswerError("other bytes follow it")
        return content

    def _receive(self, size: int) -> bytes:
        """Read exactly `size` bytes; return b"" if the connection was closed before the first.

        Raises the errors of `read_answer`.
        """
        while len(self._received) < size:
            self._socket.settimeout(max(self._deadline - time.monotonic(), MIN_SECONDS))
            piece = self._socket.recv(PIECE_BYTES)
            if not piece and self._received:
                raise InvalidAnswerError(f"it ends after {len(self._received):,} of {size:,} bytes")
            if not piece:
                return b""
            self._received += piece
        content = bytes(self._received[:size])
        del self._received[:size]
        return content


def is_readable(descriptor: int, seconds: float) -> bool:
    """Return whether there is something to read, or the other side has closed its end; wait so many seconds for it."""
    poll = select.poll()  # `select.select` supports descriptors below 1024 only
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
