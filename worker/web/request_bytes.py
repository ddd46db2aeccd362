"""Checks on the raw bytes of a request, before aiohttp parses them. Some short inputs take much time or memory."""

import re
from collections.abc import Iterator
from typing import Final

from aiohttp import web

MAX_LINE_BYTES: Final = 4096
"""Method, target and version. The slowest target of this size takes aiohttp less than a millisecond."""
REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20} /(?!/)[\x21-\x7e]* HTTP/1\.[01]\r?\n")
"""The target must be a path. aiohttp would parse a host in it, which can take a third of a second."""
DOT_SEGMENT: Final = re.compile(rb"/\.\.?[/ ?]")
BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CHUNKED_PIECE_BYTES: Final = 1024
OVERHEAD_BYTES: Final = 2048
"""Bytes that chunk sizes, extensions and trailers may take in addition to an eighth of the content."""


def is_good_line(line: bytes) -> bool:
    """Return whether a request line, with its end, is one that may be passed on."""
    return REQUEST_LINE.fullmatch(line) is not None and DOT_SEGMENT.search(line.partition(b"?")[0]) is None


class BodyBytes:
    """Divides what arrives after a head into what belongs to the body, and the rest."""

    def __init__(self, request: web.Request) -> None:
        self._content = request.content
        self._left = request.content_length
        self._received = 0

    @property
    def is_complete(self) -> bool:
        """Whether the body has arrived."""
        return self._content.is_eof()

    @property
    def is_wasteful(self) -> bool:
        """Whether much more has arrived than the content of a chunked body."""
        return self._received > self._content.total_bytes * 9 // 8 + OVERHEAD_BYTES

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield the data in pieces, until the body is complete or has too much overhead."""
        if self._left is not None:
            piece = data[: self._left]
            self._left -= len(piece)
            if piece:
                yield piece
            return
        for start in range(0, len(data), CHUNKED_PIECE_BYTES):
            if self.is_complete or self.is_wasteful or self._content.exception() is not None:
                return
            piece = data[start : start + CHUNKED_PIECE_BYTES]
            self._received += len(piece)
            yield piece
