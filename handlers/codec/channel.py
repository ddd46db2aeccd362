"""The worker's end of the connection to a codec process, which it does not trust.

What is read is bounded in size before memory is taken for it, and in time as a whole.
"""

import select
import socket
import time
from typing import Final

from handlers.codec.framing import BEGUN, LENGTH, FrameError, check_length, frame
from handlers.codec.request import InvalidAnswerError

PIECE_BYTES: Final = 1 << 16
MIN_SECONDS: Final = 1e-6
"""The shortest timeout: 0 would make the socket raise BlockingIOError."""


class Channel:
    """Sends requests and reads answers. One thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = bytearray()
        self._deadline = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to read: no byte since the last answer, and no end."""
        return not self._received and not is_readable(self._socket.fileno(), 0)

    def send(self, request: bytes, seconds: float) -> None:
        """Send a request; from now on `begins` and `answer` have so many seconds, both together.

        Raises:
            TimeoutError: the process does not take it.
            OSError: the process has ended.
        """
        self._deadline = time.monotonic() + seconds
        self._socket.settimeout(seconds)
        self._socket.sendall(frame(request))

    def begins(self) -> bool:
        """Wait until the process begins the request; return False if it closed the connection instead."""
        said = self._receive(len(BEGUN))
        if said and said != BEGUN:
            raise InvalidAnswerError("it begins with another byte than an answer")
        return bool(said)

    def answer(self) -> bytes:
        """Read one answer, and see that nothing follows; return nothing if the process closed the connection instead.

        Raises:
            TimeoutError: it is not there in time.
            InvalidAnswerError: it is empty, too large or incomplete, or something follows.
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
            raise InvalidAnswerError("more follows")
        return content

    def _receive(self, size: int) -> bytes:
        """Read so many bytes; none if the connection was closed before the first."""
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
    """Wait until there is something to read, or the other side has closed its end."""
    poll = select.poll()  # `select` knows descriptors below 1024 only
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
