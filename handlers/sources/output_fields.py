"""The path of a file in an output, as text: `images[0].url`. The path is stored in tables, so its length is limited."""

import json
import re
from collections.abc import Iterable
from typing import Final

MAX_FIELD_CHARACTERS: Final = 255
MAX_KEY_CHARACTERS: Final = 100
PLAIN_KEY: Final = re.compile(r"[^\W\d][\w-]*")
INDEX: Final = re.compile(r"\[([0-9]{1,8})\]")
Key = str | int | None
"""The key of an object, the index of a list, or None for a value that is not in a container."""


def output_field(keys: Iterable[Key], field: str = "") -> str:
    """Return the path of a value: `images[0].url`; empty for the output itself. `field` is the path before `keys`.

    A key that is no identifier is written as `["a key"]`, as a JSON string. A key is cut after MAX_KEY_CHARACTERS, the
    path after MAX_FIELD_CHARACTERS.
    """
    for key in keys:
        if len(field) >= MAX_FIELD_CHARACTERS:
            break
        if isinstance(key, int):
            field += f"[{key}]"
        elif key is not None:
            field += _segment(key[:MAX_KEY_CHARACTERS], first=not field)
    return field[:MAX_FIELD_CHARACTERS]


def field_order(field: str) -> str:
    """Return a sort key for fields, in which list indexes sort as numbers. `outlast_media` in SQL sorts like it."""
    return INDEX.sub(lambda found: f"[{found[1]:0>8}]", field)


def _segment(key: str, *, first: bool) -> str:
    if PLAIN_KEY.fullmatch(key) is None:
        return f"[{json.dumps(key)}]"
    return key if first else f".{key}"
