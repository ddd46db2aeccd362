"""Reads values that an application stored as text in an output: JSON, or an array as PostgreSQL writes it."""

import re
from typing import Any, Final

from handlers.json_text import JsonTooLargeError, parse_json

JSON_ENDS: Final = frozenset(["{}", "[]", '""'])
"""The possible pairs of the first and the last character of a JSON text, or array literal, that can contain a URL."""
JSON_BEGINNINGS: Final = frozenset(ends[0] for ends in JSON_ENDS)
QUOTED: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
PLAIN: Final = r'[^{},"\\\s][^{},"\\]*+'
ARRAY: Final = re.compile(
    rf"\{{[\s{{]*+(?:{QUOTED}|{PLAIN})(?:[\s}}]*+,[\s{{]*+(?:{QUOTED}|{PLAIN}))*+[\s}}]*+", re.DOTALL
)
"""An array literal. The quantifiers are possessive, so that no text takes more than linear time."""
ELEMENT: Final = re.compile(rf"{QUOTED}|{PLAIN}", re.DOTALL)
ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def is_json_like(text: str) -> bool:
    """Return whether a stripped text begins and ends like JSON or an array literal that can contain a URL."""
    return text[:1] + text[-1:] in JSON_ENDS


def parse_json_text(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the value of JSON; None for any other text.

    Raises:
        JsonTooLargeError: the JSON has too many values.
    """
    try:
        return parse_json(text)
    except JsonTooLargeError:
        raise
    except ValueError:
        return None


def parse_array_literal(text: str) -> list[str]:
    """Return the elements of `{a,"b"}`, flat if it has several dimensions; none if the text is no array literal.

    The format is that of PostgreSQL, "Array Input and Output Syntax".
    """
    if ARRAY.fullmatch(text) is None:
        return []
    return [_unquote(element) for element in ELEMENT.findall(text)]


def _unquote(element: str) -> str:
    return ESCAPED.sub(r"\1", element[1:-1]) if element[0] == '"' else element
