"""Searches an output for URLs. An output is any JSON and hostile, so the search is bounded."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from handlers.json_text import JsonTooLargeError, clean_text
from handlers.sources.output_text import JSON_BEGINNINGS, is_json_like, parse_array_literal, parse_json_text
from schemas.urls import MAX_URL_CHARACTERS, data_reference, is_data_uri, printable_name

SEARCHED: Final = (str, dict, list)
"""The types of JSON values that can be or contain a URL."""
MAX_NODES: Final = 300_000
"""Maximum number of objects, lists and texts of an output that are looked at."""
MAX_PARSED_CHARACTERS: Final = 128 * 1024 * 1024
"""Maximum size of all texts of an output that are parsed, also of texts within texts."""
MAX_SEPARATORS: Final = 600_000
"""Maximum number of commas in all texts that are parsed, and of escapes in array literals. They take the most time."""
REQUEST_FIELDS: Final = frozenset(["prompt", "negative_prompt", "logs", "input", "inputs", "arguments"])
"""Fields that repeat the request or describe the run. A text in them is no result."""
DATA_URI: Final = re.compile(
    r"data:(?:[\w.+-]{1,100}/[\w.+-]{1,100}(?:;[^,;]{1,100}){0,9}|(?:;[^,;]{1,100}){1,9}),", re.IGNORECASE
)
"""The beginning of a `data:` URI that says what it contains. Other text can begin with `data:` too."""


class SearchLimitError(Exception):
    """The output is too large to be searched completely."""


@dataclass(frozen=True, slots=True)
class OutputUrl:
    """A URL in an output. `bare`: it is a string, not the `url` of an object."""

    url: str
    name: str | None = None
    bare: bool = False


def find_urls(output: Any) -> Iterator[OutputUrl]:  # noqa: ANN401 - any JSON
    """Yield all URLs in document order, also those in texts that are JSON or array literals.

    Uses a stack, because the nesting may be deep.

    Raises:
        SearchLimitError: after MAX_NODES, MAX_PARSED_CHARACTERS or MAX_SEPARATORS.
    """
    search = _Search(output)
    while search.stack:
        node = search.pop()
        if isinstance(node, dict):
            yield from search.open_object(node)
        elif isinstance(node, list):
            search.push(node)
        elif isinstance(node, str) and not search.in_request:
            text = node.strip()
            if text[:1] in JSON_BEGINNINGS:
                search.open_text(text)
            elif (url := _bare_url(text)) is not None:
                yield OutputUrl(url, bare=True)


def find_data_uri(output: Any, reference: str) -> str | None:  # noqa: ANN401 - any JSON
    """Return the `data:` URI of an output that a `data_reference` stands for; None if it has none."""
    try:
        uris = (found.url for found in find_urls(output) if is_data_uri(found.url))
        return next((uri for uri in uris if data_reference(uri) == reference), None)
    except SearchLimitError:
        return None


class _RequestField:
    """Marks a value on the stack that repeats the request."""

    def __init__(self, value: object) -> None:
        self.value = value


class _Search:
    """The values still to be looked at, and the limits."""

    def __init__(self, output: Any) -> None:  # noqa: ANN401 - any JSON
        self.stack: list[Any] = [output]
        self._nodes = self._parsed = self._separators = 0
        self._request_depth: int | None = None

    @property
    def in_request(self) -> bool:
        """Whether the value that was popped last belongs to the request."""
        return self._request_depth is not None

    def pop(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the next value."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise SearchLimitError
        node = self.stack.pop()
        if self._request_depth is not None and len(self.stack) < self._request_depth:
            self._request_depth = None
        if isinstance(node, _RequestField):
            if self._request_depth is None:
                self._request_depth = len(self.stack)
            return node.value
        return node

    def push(self, values: list[Any]) -> None:
        """Add the values to look at next, in their order."""
        self.stack.extend(value for value in reversed(values) if isinstance(value, SEARCHED))

    def open_object(self, node: dict[str, Any]) -> Iterator[OutputUrl]:
        """Yield the `url` of an object, and add its other values."""
        url = node.get("url")
        if isinstance(url, str) and (is_data_uri(url := url.strip()) or "://" in url):
            name = node.get("file_name")
            yield OutputUrl(clean_text(url), printable_name(name) or None if isinstance(name, str) else None)
            node = {name: value for name, value in node.items() if name != "url"}
        self.stack.extend(
            _RequestField(value) if name.lower() in REQUEST_FIELDS else value
            for name, value in reversed(node.items())
            if isinstance(value, SEARCHED)
        )

    def open_text(self, text: str) -> None:
        """Add the value of a text that is JSON or an array literal."""
        if not is_json_like(text):
            return
        self._parsed += len(text)
        self._separators += text.count(",")
        if self._parsed > MAX_PARSED_CHARACTERS or self._separators > MAX_SEPARATORS:
            raise SearchLimitError
        try:
            value = parse_json_text(text)
        except JsonTooLargeError:
            raise SearchLimitError from None
        if value is None and text[0] == "{":
            self._separators += text.count("\\")
            if self._separators > MAX_SEPARATORS:
                raise SearchLimitError
            value = parse_array_literal(text)
        self.push([value])


def _bare_url(text: str) -> str | None:
    """Return the URL that a string without blanks around it is; None if it is none."""
    if "://" in text[:10]:
        return clean_text(text) if len(text) <= MAX_URL_CHARACTERS else None
    return clean_text(text) if is_data_uri(text) and DATA_URI.match(text) else None
