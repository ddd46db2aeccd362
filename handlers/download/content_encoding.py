"""Decodes a Content-Encoding that was not requested, in pieces of limited size, so that a zip bomb stays harmless.

Downloads request `identity`, but some servers compress anyway (RFC 9110, 8.4). Others send a Content-Encoding that is
not true, because the field is a free text of the stored object: `aws-chunked`, `UTF-8`, `none`, `binary`.
"""

import zlib
from collections.abc import Iterator
from typing import Final

from multidict import CIMultiDictProxy

from handlers.errors import SourceUnavailableError

PIECE_BYTES: Final = 256 * 1024
"""The maximum size of a decoded piece."""
MAX_GZIP_MEMBERS: Final = 10_000
"""Maximum number of members of one gzip body. Parallel compressors write members of 64 KiB or more."""
GZIP: Final = frozenset({"gzip", "x-gzip"})
DEFLATE: Final = "deflate"
CODINGS: Final = GZIP | {DEFLATE, "br", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip", "zstd"}
"""The codings that change the bytes (IANA, HTTP Content Coding Registry). Any other name is ignored."""
GZIP_BITS: Final = 16 + zlib.MAX_WBITS
"""zlib's `wbits` for gzip (RFC 1952)."""
ZLIB_METHOD: Final = 8
"""The lower half of the first byte of a zlib stream (RFC 1950, 2.2). No raw deflate stream begins with it."""


def content_codings(headers: CIMultiDictProxy[str]) -> list[str]:
    """Return the codings of a response's body, in lower case. Names that are no codings are left out."""
    names = ",".join(headers.getall("Content-Encoding", [])).lower().split(",")
    return [name for text in names if (name := text.partition(";")[0].strip()) in CODINGS]


def inflater_for(headers: CIMultiDictProxy[str]) -> "Inflater | None":
    """Return the decoder for a response's Content-Encoding; None when the bytes are not encoded.

    Raises:
        SourceUnavailableError: the coding cannot be decoded here, or there are several.
    """
    codings = content_codings(headers)
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in GZIP | {DEFLATE}:
        raise SourceUnavailableError(
            f"the source answered with Content-Encoding {', '.join(codings)[:40]!r}; the request accepts identity only"
        )
    return Inflater(gzip=codings[0] in GZIP)


class Inflater:
    """Decompresses one body, in pieces of at most PIECE_BYTES.

    gzip may have several members (RFC 1952, 2.2), and zeros after its end, which gzip(1) ignores as well. deflate is
    zlib's format (RFC 1950), but some servers send it without zlib's header (RFC 9110, 8.4.1.2).
    """

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._stream = zlib.decompressobj(GZIP_BITS) if gzip else None
        self._members = 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed pieces of `data`.

        Raises:
            SourceUnavailableError: the data is invalid, or there is data after the end of the stream.
        """
        while data:
            stream = self._stream_for(data)
            if stream.eof:
                data = data.lstrip(b"\0")
                if data:
                    self._start_member()
                continue
            try:
                piece = stream.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise self._invalid(error) from None
            yield piece
            data = stream.unconsumed_tail or stream.unused_data

    def finish(self) -> None:
        """Raise SourceUnavailableError when the stream is incomplete."""
        if self._stream is None or not self._stream.eof:
            raise SourceUnavailableError("the compressed body is incomplete")

    def _stream_for(self, data: bytes) -> "zlib._Decompress":
        """Return the decoder. For deflate, the first byte of `data` shows whether the body has zlib's header."""
        if self._stream is None:
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == ZLIB_METHOD else -zlib.MAX_WBITS)
        return self._stream

    def _start_member(self) -> None:
        """Begin the next member of a gzip body. Raises SourceUnavailableError for deflate, and for too many members."""
        self._members += 1
        if not self._gzip:
            raise SourceUnavailableError("the compressed body has data after its end")
        if self._members > MAX_GZIP_MEMBERS:
            raise SourceUnavailableError(f"the compressed body has more than {MAX_GZIP_MEMBERS} gzip members")
        self._stream = zlib.decompressobj(GZIP_BITS)

    def _invalid(self, error: zlib.error) -> SourceUnavailableError:
        if self._members > 1:
            return SourceUnavailableError(f"the compressed body has data after its end that does not inflate: {error}")
        return SourceUnavailableError(f"the compressed body does not inflate: {error}")
