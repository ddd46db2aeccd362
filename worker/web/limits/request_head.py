"""Checks the head of a request, before aiohttp parses it. Some short heads take much time or memory."""

import re
from typing import Final

MAX_HEAD_BYTES: Final = 32 * 1024
"""Request line and headers together. aiohttp limits each line to 8 KiB, but would accept 128 of them."""
MAX_HEAD_LINES: Final = 100
"""As Apache's LimitRequestFields. aiohttp does not count headers without a value, and joins their names."""
MAX_LINE_BYTES: Final = 4096
"""Method, target and version. The slowest target of this size takes aiohttp less than a millisecond."""
REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20} /(?!/)[\x21-\x7e]* HTTP/1\.[01]\r?\n")
"""The target must be a path. aiohttp would parse a host in it, which can take a third of a second."""
DOT_SEGMENT: Final = re.compile(rb"/\.\.?(?:[/ ]|$)")
BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"


class HeadTooLargeError(Exception):
    """A head has more than MAX_HEAD_BYTES or MAX_HEAD_LINES."""


class BadRequestLineError(Exception):
    """A request line is malformed, or its path has a "." or ".." segment."""


def is_good_line(line: bytes) -> bool:
    """Return whether a request line, with its line end, is well formed, and its path has no "." or ".." segment."""
    return REQUEST_LINE.fullmatch(line) is not None and DOT_SEGMENT.search(line.partition(b"?")[0]) is None


class RequestHead:
    """The head of one request, as it arrives. `is_complete`: its last byte has arrived."""

    def __init__(self) -> None:
        self.is_complete = False
        self._bytes = self._lines = 0
        self._last_bytes = b""
        self._line: bytes | None = b""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has arrived."""
        return self._bytes == 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what can be passed on, which is nothing until the request line is complete, and what follows the head.

        Raises:
            HeadTooLargeError: the head has too many bytes or lines.
            BadRequestLineError: the request line may not be passed on.
        """
        size = self._count(data)
        return self._after_line(data[:size]), data[size:]

    def _count(self, data: bytes) -> int:
        """Count bytes and lines; return how many of the bytes belong to the head."""
        received = self._last_bytes + data
        _, end, following = received.partition(END_OF_HEAD)
        self.is_complete = bool(end)
        size = len(data) - len(following) if end else len(data)
        self._bytes += size
        self._lines += data.count(b"\n", 0, size)
        self._last_bytes = received[-len(END_OF_HEAD) + 1 :]
        if self._bytes > MAX_HEAD_BYTES or self._lines > MAX_HEAD_LINES:
            raise HeadTooLargeError
        return size

    def _after_line(self, head: bytes) -> bytes:
        """Check the request line when it is complete; keep what has arrived until then."""
        if self._line is None:
            return head
        head = self._line + head
        line, newline, _ = head.partition(b"\n")
        if not newline and len(head) <= MAX_LINE_BYTES:
            self._line = head
            return b""
        self._line = None
        if len(line) > MAX_LINE_BYTES or not is_good_line(line + newline):
            raise BadRequestLineError
        return head
