"""Divides the bytes of a request's body from what follows, before aiohttp parses them."""

from collections.abc import Iterator
from typing import Final

from aiohttp import web

CHUNKED_PIECE_BYTES: Final = 1024
OVERHEAD_BYTES: Final = 2048
"""Bytes that chunk sizes, extensions and trailers may take in addition to an eighth of the content."""


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
