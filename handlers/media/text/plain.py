"""Plain text in UTF-8."""

import codecs
from collections.abc import Iterator
from typing import Final

from handlers.detect.text import CONTROL
from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

TEXT_PIECE_BYTES: Final = 1 << 20


def check_content(content: Content) -> int:
    """Check every character; return the file size.

    Raises:
        FileCorruptedError: it is not UTF-8, or contains control characters.
    """
    for _ in pieces(content):
        pass
    return len(content)


def pieces(content: Content) -> Iterator[str]:
    """Yield the text in pieces of about a megabyte, without a byte order mark. Raises the error of `check_content`."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        for at in range(0, len(content), TEXT_PIECE_BYTES):
            text = decoder.decode(content[at : at + TEXT_PIECE_BYTES], at + TEXT_PIECE_BYTES >= len(content))
            if (control := CONTROL.search(text)) is not None:
                raise FileCorruptedError(f"the text contains the control character U+{ord(control[0]):04X}")
            yield text
    except UnicodeDecodeError as error:
        raise FileCorruptedError(f"the text is not UTF-8: {error.reason} near byte {at + error.start:,}") from None


def whole(content: Content) -> str:
    """Return the whole text. Raises the error of `check_content`."""
    return "".join(pieces(content))
