"""Decodes a Content-Encoding that was not requested, in pieces of limited size, so that a zip bomb stays harmless.

Downloads request `identity`, but some servers compress anyway (RFC 9110, 8.4).
"""

import zlib
from collections.abc import Iterator
from typing import Final

from multidict import CIMultiDictProxy

from handlers.errors import SourceUnavailableError

PIECE_BYTES: Final = 256 * 1024
"""The largest piece that is decoded at once."""
WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""zlib's `wbits` by coding: gzip (RFC 1952), and deflate, which is zlib's format in HTTP (RFC 1950)."""


def inflater_for(headers: CIMultiDictProxy[str]) -> "Inflater | None":
    """Return the decoder for a response's Content-Encoding; None when it has none.

    Raises:
        SourceUnavailableError: the coding is unknown, or there are several.
    """
    coding = ",".join(headers.getall("Content-Encoding", [])).strip().lower()
    if coding in {"", "identity"}:
        return None
    if coding not in WINDOW_BITS:
        raise SourceUnavailableError(
            f"the source answered with Content-Encoding {coding[:40]!r}; the request accepts identity only"
        )
    return Inflater(WINDOW_BITS[coding])


class Inflater:
    """Decompresses one stream with one member, in pieces of at most PIECE_BYTES."""

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed pieces of `data`.

        Raises:
            SourceUnavailableError: the data is invalid, or there is data after the end of the stream.
        """
        while data:
            if self._stream.eof:
                raise SourceUnavailableError("the compressed body has data after its end")
            try:
                piece = self._stream.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise SourceUnavailableError(f"the compressed body does not inflate: {error}") from None
            yield piece
            data = self._stream.unconsumed_tail or self._stream.unused_data

    def finish(self) -> None:
        """Raise SourceUnavailableError when the stream is incomplete."""
        if not self._stream.eof:
            raise SourceUnavailableError("the compressed body is incomplete")
