"""Writes the content of a `data:` URI (RFC 2397), which contains the file itself, to disk."""

import base64
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from handlers.download.content_encoding import PIECE_BYTES
from handlers.download.file_writer import DownloadedFile, FileWriter, too_large
from handlers.errors import FileCorruptedError

WHITESPACE: Final = " \t\r\n\f"
"""Characters that are ignored anywhere in base64."""


def write_data_uri(url: str, writer: FileWriter) -> DownloadedFile:
    """Decode a `data:` URI into `writer`. Blocks, so call it in a thread.

    Raises:
        FileSizeExceededError: the content is larger than the writer's limit. Where the length of the URI shows this,
            nothing is decoded.
        FileCorruptedError: the URI has no content, or its base64 is invalid.
        FileProcessingError: what the writer's `check_head` raises.
    """
    start = url.find(",") + 1
    if start == 0:
        raise FileCorruptedError("the data: URI has no content")
    is_base64 = url[5 : start - 1].rstrip().lower().endswith(";base64")
    if _min_size(url, start, is_base64=is_base64) > writer.limit:
        raise too_large(writer.limit)
    try:
        pieces = _unquoted(url, start)
        for piece in _from_base64(pieces) if is_base64 else pieces:
            writer.write(piece)
    except ValueError as error:  # the errors of binascii and of the unicode codecs are ValueErrors
        raise FileCorruptedError(f"the data: URI cannot be decoded: {error}"[:200]) from None
    return writer.finish()


def _min_size(url: str, start: int, *, is_base64: bool) -> int:
    """Return a lower bound of the decoded size in bytes, without decoding."""
    length, escapes = len(url) - start, url.count("%", start)
    if not is_base64:
        return length - 2 * escapes
    whitespace = sum(url.count(character, start) for character in WHITESPACE)
    # Each percent-escape may stand for whitespace, and the last two characters may be padding.
    return (length - 3 * escapes - whitespace) * 3 // 4 - 2


def _unquoted(url: str, start: int) -> Iterator[bytes]:
    """Yield the content with percent-escapes decoded, in pieces that do not split an escape."""
    while start < len(url):
        end = start + PIECE_BYTES
        escape = url.rfind("%", end - 2, end)
        end = end if escape < 0 else escape
        yield unquote_to_bytes(url[start:end])
        start = end


def _from_base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        rest += piece.translate(None, WHITESPACE.encode())
        end = len(rest) // 4 * 4  # base64 is decoded in groups of four characters
        yield base64.b64decode(rest[:end], validate=True)
        rest = rest[end:]
    yield base64.b64decode(rest, validate=True)
