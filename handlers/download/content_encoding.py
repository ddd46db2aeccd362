"""Undo a content coding nobody asked for, in pieces of bounded size, so that a few bytes never become many at once.

Downloads ask for `identity`; some servers compress all the same (RFC 9110, 8.4).
"""

import zlib
from collections.abc import Iterator
from typing import Final

from multidict import CIMultiDictProxy

from handlers.errors import SourceUnavailableError

PIECE: Final = 256 * 1024
WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""zlib's `wbits` of each coding: gzip (RFC 1952), and deflate, which HTTP wraps as zlib does (RFC 1950)."""


def inflater_for(headers: CIMultiDictProxy[str]) -> "Inflater | None":
    """Return what undoes the answer's Content-Encoding; None where it has none.

    Raises:
        SourceUnavailableError: a coding that we did not ask for and cannot undo, or several on top of each other.
    """
    coding = ",".join(headers.getall("Content-Encoding", [])).strip().lower()
    if coding in {"", "identity"}:
        return None
    if coding not in WINDOW_BITS:
        raise SourceUnavailableError(f"the source answered with Content-Encoding {coding[:40]!r}, asked for identity")
    return Inflater(WINDOW_BITS[coding])


class Inflater:
    """Inflates one stream of one member, in pieces of at most PIECE bytes."""

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` inflates to.

        Raises:
            SourceUnavailableError: it is no such stream, or goes on behind its end.
        """
        while data:
            if self._stream.eof:
                raise SourceUnavailableError("the compressed answer goes on behind its end")
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                raise SourceUnavailableError(f"the compressed answer does not inflate: {error}") from None
            yield piece
            data = self._stream.unconsumed_tail or self._stream.unused_data

    def finish(self) -> None:
        """See that the stream has ended; raise SourceUnavailableError when it was cut."""
        if not self._stream.eof:
            raise SourceUnavailableError("the compressed answer was cut short")
