"""Files that their URL carries itself: `data:` URIs (RFC 2397), decoded to disk in pieces."""

import base64
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from handlers.download.file_writer import DownloadedFile, FileWriter, too_large
from handlers.errors import FileCorruptedError

PIECE: Final = 256 * 1024
BLANKS: Final = " \t\r\n\f"
"""What base64 may be broken into lines with; it does not count."""


def write_data_uri(url: str, landing: FileWriter) -> DownloadedFile:
    """Decode a `data:` URI. Blocks: call it in a thread.

    Raises:
        FileSizeExceededError: it decodes to more than the landing takes; told before decoding where its length tells.
        FileCorruptedError: it has no content, or is no base64 though it says so.
    """
    start = url.find(",") + 1
    if start == 0:
        raise FileCorruptedError("the data: URI has no content")
    is_base64 = url[5 : start - 1].rstrip().lower().endswith(";base64")
    if _least_size(url, start, is_base64=is_base64) > landing.limit:
        raise too_large(landing.limit)
    try:
        pieces = _unquoted(url, start)
        for piece in _from_base64(pieces) if is_base64 else pieces:
            landing.write(piece)
    except ValueError as error:  # binascii's and unicode's errors are ValueErrors
        raise FileCorruptedError(f"the data: URI cannot be decoded: {error}"[:200]) from None
    return landing.finish()


def _least_size(url: str, start: int, *, is_base64: bool) -> int:
    """Return how many bytes the content decodes to at least."""
    length, escapes = len(url) - start, url.count("%", start)
    if not is_base64:
        return length - 2 * escapes
    blanks = sum(url.count(blank, start) for blank in BLANKS)
    return (length - 3 * escapes - blanks) * 3 // 4 - 2  # each escape may be a blank, the last two letters padding


def _unquoted(url: str, start: int) -> Iterator[bytes]:
    while start < len(url):
        end = start + PIECE
        escape = url.rfind("%", end - 2, end)
        end = end if escape < 0 else escape  # whole escapes only
        yield unquote_to_bytes(url[start:end])
        start = end


def _from_base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        rest += piece.translate(None, BLANKS.encode())
        whole = len(rest) // 4 * 4
        yield base64.b64decode(rest[:whole], validate=True)
        rest = rest[whole:]
    yield base64.b64decode(rest, validate=True)
