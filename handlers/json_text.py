"""JSON and text from outside. What PostgreSQL cannot store is replaced; oversized JSON is refused before it is parsed.

jsonb and text cannot hold NUL, and no UTF-8 text can hold lone surrogates, but JSON can express both as escapes. Both
are replaced by U+FFFD, the Unicode replacement character, where text enters, so that no later step fails on them.
"""

import json
import re
from typing import Any, Final

MAX_JSON_VALUES: Final = 300_000
"""Maximum number of values in one JSON text. An empty list of 2 bytes takes 64 bytes of memory when it is parsed."""
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
SUSPECT: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""Finds an escape that may be a NUL or a lone surrogate. Also matches valid pairs and escaped backslashes."""
ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a valid pair
    r"|(u0000|u[dD][89a-fA-F][0-9a-fA-F]{2})"  # NUL or a lone surrogate
    r"|.)",  # any other escape, also of a backslash
    re.DOTALL,
)


class JsonTooLargeError(ValueError):
    """The JSON has more than MAX_JSON_VALUES values."""


def clean_text(text: str) -> str:
    """Return the text with NUL and lone surrogates replaced by U+FFFD."""
    if text.isascii():
        return text.replace("\0", REPLACEMENT)
    return UNSTORABLE.sub(REPLACEMENT, text)


def clean_json(text: str) -> str:
    """Return JSON text with the escapes of NUL and of lone surrogates replaced by the escape of U+FFFD."""
    if SUSPECT.search(text) is None:
        return text
    return ESCAPE.sub(lambda found: r"\ufffd" if found[1] else found[0], text)


def check_size(text: str) -> None:
    """Raise JsonTooLargeError if the JSON may have more than MAX_JSON_VALUES values. The JSON is not parsed."""
    if text.count(",") + text.count("[") + text.count("{") > MAX_JSON_VALUES:
        raise JsonTooLargeError(f"the JSON has more than {MAX_JSON_VALUES} values")


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the value of JSON text, with NUL and lone surrogates replaced.

    Raises:
        JsonTooLargeError: the JSON may have too many values.
        ValueError: the text is not JSON, or is nested too deeply.
    """
    check_size(text)
    try:
        return json.loads(clean_json(text))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
