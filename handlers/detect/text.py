"""Detects JSON, subtitles, CSV and plain text. These checks run after those of other formats that consist of text."""

import codecs
import csv
import re
from typing import Final

HEAD: Final = 4096
"""How many bytes at the beginning decide. Further ones are ignored, so that they do not change the type."""
BOM: Final = b"\xef\xbb\xbf"
CONTROL: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffe\uffff]")
"""Characters that text must not contain. ESC is not among them, since logs use it for colours."""
JSON_TOKENS: Final = re.compile(
    rb'(?>[\s{}\[\],:]++|"(?:[^"\\\x00-\x1f]++|\\.)*+"|-?\d++(?:\.\d++)?+(?:[eE][+-]?+\d++)?+'
    rb"|true|false|null|NaN|-?Infinity)*+"
)
JSON_LITERALS: Final = (b"true", b"false", b"null", b"NaN", b"-Infinity", b"Infinity")
VTT: Final = re.compile(rb"WEBVTT(?:[ \t\r\n]|$)")
TIME: Final = rb"\d{1,3}:\d\d:\d\d[,.]\d{1,3}"
SRT: Final = re.compile(rb"\s*+\d++[ \t]*\r?\n" + TIME + rb"[ \t]*-->[ \t]*" + TIME)
DELIMITERS: Final = (",", ";", "\t")
MIN_ROWS, MIN_COLUMNS = 2, 2


def json(head: bytes) -> str | None:
    """Detect a JSON object or list, of which the bytes may contain only the beginning."""
    text = head[:HEAD].removeprefix(BOM).lstrip()
    if not text.startswith((b"{", b"[")):
        return None
    tokens = JSON_TOKENS.match(text)
    rest = text[tokens.end() if tokens else 0 :]
    is_cut_string = rest.startswith(b'"') and b"\n" not in rest
    is_cut_literal = any(literal.startswith(rest) for literal in JSON_LITERALS) or rest == b"-"
    return "application/json" if not rest or is_cut_string or is_cut_literal else None


def subtitles(head: bytes) -> str | None:
    """Detect WebVTT and SubRip."""
    text = head[:HEAD].removeprefix(BOM)
    if VTT.match(text):
        return "text/vtt"
    return "application/x-subrip" if SRT.match(text) else None


def plain(head: bytes) -> str | None:
    """Detect CSV and other text in UTF-8."""
    text = decode_head(head[:HEAD])
    if text is None or not text.strip():
        return None
    return "text/csv" if delimiter_of(text, is_cut=len(head) >= HEAD) else "text/plain"


def decode_head(head: bytes) -> str | None:
    """Return the text of the first bytes of a file, which may end inside a character.

    None: they are not UTF-8, or contain control characters.
    """
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return None
    return None if CONTROL.search(text) else text


def delimiter_of(text: str, *, is_cut: bool) -> str | None:
    """Return the delimiter of the columns if the lines are a table; None if they are not.

    Every row of a table has the same number of columns. Lines are prose if a blank follows a comma or semicolon in the
    first one. `is_cut`: the last line may be incomplete, and is ignored.
    """
    lines = text.splitlines()[: -1 if is_cut else None]
    for delimiter in DELIMITERS:
        if delimiter not in lines[0] if lines else True:
            continue
        try:
            widths = {len(row) for row in csv.reader(lines, delimiter=delimiter) if row}
        except csv.Error:
            continue
        is_prose = delimiter != "\t" and f"{delimiter} " in lines[0]
        if len(widths) == 1 and max(widths) >= MIN_COLUMNS and len(lines) >= MIN_ROWS and not is_prose:
            return delimiter
    return None
