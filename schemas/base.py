"""The base class of the schemas, and the errors of their validation as sentences for people.

The sentences say what a value must be, without the value itself.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

PATTERNS: Final = {
    r"^https?://": "must be a URL that begins with http:// or https://",
    r"^https?://[^\s/]+": "must be a URL that begins with http:// or https://, and have a host",
    r"^(https?://|data:)[^\s\x00-\x1f\x7f]+$": "must be a URL that begins with https://, http:// or data:, without "
    "spaces",
    r"^[^\x00-\x1f\x7f]+$": "must not contain control characters",
}
"""The sentence for a value that does not match a field's pattern, by pattern."""
MEANINGS: Final = {
    "missing": "is missing",
    "extra_forbidden": "is not known",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID, for example 2f1c8a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}
"""The sentence for each of pydantic's error types. The names in braces are keys of the error's `ctx`."""


def problem_text(problem: Mapping[str, Any]) -> str:
    """Return a sentence, without its subject, for one error of `ValidationError.errors(include_context=True)`."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(context.get("pattern", ""), "has not the right form")
    if kind in {"string_too_short", "too_short"} and context.get("min_length") == 1:
        return "must not be empty"
    if kind in MEANINGS:
        return MEANINGS[kind].format_map(context)
    return str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")


def field_path(location: tuple[int | str, ...]) -> str:
    """Return the path of an invalid field: `urls[0]`, `task_options.quality`; empty for the whole input."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


class Frozen(BaseModel):
    """An immutable record. Unknown fields are ignored, so an older version can read a newer version's data."""

    model_config = ConfigDict(frozen=True, extra="ignore")
