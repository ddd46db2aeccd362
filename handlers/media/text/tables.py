"""CSV (RFC 4180), also with semicolons or tabs."""

import csv
import io

from handlers.detect.text import HEAD, decode_head, delimiter_of
from handlers.errors import FileCorruptedError
from handlers.media.formats import Content
from handlers.media.text import plain


def check_content(content: Content) -> int:
    """Read every row; return the file size.

    Raises:
        FileCorruptedError: it is not UTF-8, not a table, or a quotation mark is not closed.
    """
    head = decode_head(content[:HEAD]) or ""
    delimiter = delimiter_of(head, is_cut=len(content) > HEAD)
    if delimiter is None:
        raise FileCorruptedError("the text is not a table")
    try:
        for _ in csv.reader(io.StringIO(plain.whole(content), newline=""), delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        raise FileCorruptedError(f"the table cannot be read: {error}") from None
    return len(content)
