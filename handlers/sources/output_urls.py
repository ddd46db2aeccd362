"""Searches an output for URLs. An output is any JSON and may be hostile, so the search is limited."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from handlers.json_text import JsonTooLargeError, clean_text
from handlers.sources.output_fields import MAX_FIELD_CHARACTERS, Key, output_field
from handlers.sources.output_text import JSON_BEGINNINGS, is_json_like, parse_array_literal, parse_json_text
from schemas.urls import MAX_URL_CHARACTERS, data_reference, is_data_uri, printable_name

SEARCHED: Final = (str, dict, list)
"""The types of JSON values that can be or contain a URL."""
MAX_NODES: Final = 300_000
"""Maximum number of objects, lists and texts of an output that are searched."""
MAX_PARSED_CHARACTERS: Final = 128 * 1024 * 1024
"""Maximum size of all texts of an output that are parsed, also of texts within texts."""
MAX_SEPARATORS: Final = 600_000
"""Maximum number of commas in all texts that are parsed, and of escapes in array literals. They take the most time."""
REQUEST_FIELDS: Final = frozenset(["prompt", "negative_prompt", "logs", "input", "inputs", "arguments"])
"""Fields that repeat the request or describe the run. A text or a file in them is no result."""
ARGUMENTS: Final = frozenset(["input", "inputs", "arguments"])
"""The REQUEST_FIELDS that hold the request's arguments: a text in them that is a URL is a file of the request."""
FILE_FIELDS: Final = ("content_type", "file_name", "file_size")
"""Fields of an object that say that its `url` is a file."""
WEB_URL: Final = re.compile(r"https?://", re.IGNORECASE)
NEXT_URL: Final = re.compile(r"(?:,|(?<![\s,])\s)\s*+(?=https?://)", re.IGNORECASE)
"""Finds what separates URLs in a text: a comma or whitespace. The lookbehind keeps the time linear."""
DATA_URI: Final = re.compile(
    r"data:(?:[\w.+-]{1,100}/[\w.+-]{1,100}(?:;[^,;]{1,100}){0,9}|(?:;[^,;]{1,100}){1,9}),", re.IGNORECASE
)
"""The beginning of a `data:` URI that says what it contains. Other text can begin with `data:` too."""


class SearchLimitError(Exception):
    """The output is too large to be searched completely."""


@dataclass(frozen=True, slots=True)
class OutputUrl:
    """A URL in an output. `bare`: it is a string, not the `url` of an object. `field`: see `output_field`.

    `described`: the object has one of FILE_FIELDS. `in_request`: the URL is in a field that repeats the request.
    """

    url: str
    name: str | None = None
    bare: bool = False
    field: str = ""
    described: bool = False
    in_request: bool = False


def find_urls(output: Any) -> Iterator[OutputUrl]:  # noqa: ANN401 - any JSON
    """Yield the URLs of an output in document order, also those in texts that are JSON, array literals or URL lists.

    A text in REQUEST_FIELDS is yielded only if it is in ARGUMENTS and is a URL. Uses a stack, because the nesting may
    be deep.

    Raises:
        SearchLimitError: the output exceeds MAX_NODES, MAX_PARSED_CHARACTERS or MAX_SEPARATORS.
    """
    search = _Search(output)
    for node in search.nodes():
        if isinstance(node, dict):
            yield from search.open_object(node)
        elif isinstance(node, list):
            search.open(enumerate(node))
        elif search.in_request:
            if search.in_arguments and (url := _bare_url(node.strip())) is not None:
                yield OutputUrl(url, bare=True, field=search.field(), in_request=True)
        else:
            text = node.strip()
            if text[:1] in JSON_BEGINNINGS:
                search.open_text(text)
            elif WEB_URL.match(text) and NEXT_URL.search(text):
                search.open_list(text)
            elif (url := _bare_url(text)) is not None:
                yield OutputUrl(url, bare=True, field=search.field())


def find_data_uri(output: Any, reference: str) -> str | None:  # noqa: ANN401 - any JSON
    """Return the `data:` URI in an output that a `data_reference` stands for; None if it is not found."""
    try:
        uris = (found.url for found in find_urls(output) if is_data_uri(found.url))
        return next((uri for uri in uris if data_reference(uri) == reference), None)
    except SearchLimitError:
        return None


@dataclass(slots=True)
class _Container:
    """An object or a list that is being searched, where it is in the output, and the key of the current value in it."""

    children: Iterator[tuple[Key, Any]]
    in_request: bool
    in_arguments: bool
    key: Key = None
    field: str | None = None


class _Search:
    """The value that is searched now (the current value), the containers around it, and the limits."""

    def __init__(self, output: Any) -> None:  # noqa: ANN401 - any JSON
        self._stack = [_Container(iter([(None, output)]), in_request=False, in_arguments=False)]
        self._nodes = self._parsed = self._separators = 0

    @property
    def in_request(self) -> bool:
        """Whether the current value is in a field that repeats the request (REQUEST_FIELDS)."""
        top = self._stack[-1]
        return top.in_request or (isinstance(top.key, str) and top.key.lower() in REQUEST_FIELDS)

    @property
    def in_arguments(self) -> bool:
        """Whether the current value is in a field with the arguments of the request (ARGUMENTS)."""
        top = self._stack[-1]
        return top.in_arguments or (isinstance(top.key, str) and top.key.lower() in ARGUMENTS)

    def nodes(self) -> Iterator[Any]:
        """Yield each value that can be or contain a URL. Children that the caller opens are yielded next."""
        while self._stack:
            top = self._stack[-1]
            for key, value in top.children:
                if isinstance(value, SEARCHED):
                    top.key = key
                    self._nodes += 1
                    if self._nodes > MAX_NODES:
                        raise SearchLimitError
                    yield value
                    break
            else:
                self._stack.pop()

    def field(self, *more: str) -> str:
        """Return where the current value is in the output; see `output_field`."""
        top = self._stack[-1]
        if top.field is None:
            top.field = output_field(container.key for container in self._stack[:-1][:MAX_FIELD_CHARACTERS])
        return output_field((top.key, *more), top.field)

    def open(self, children: Iterable[tuple[Key, Any]]) -> None:
        """Search the children of the current value next, in their order."""
        self._stack.append(_Container(iter(children), self.in_request, self.in_arguments))

    def open_object(self, node: dict[str, Any]) -> Iterator[OutputUrl]:
        """Yield the `url` of an object, and search its other values next."""
        url = node.get("url")
        if isinstance(url, str) and (is_data_uri(url := url.strip()) or "://" in url):
            name = node.get("file_name")
            yield OutputUrl(
                clean_text(url),
                printable_name(name) or None if isinstance(name, str) else None,
                field=self.field("url"),
                described=any(node.get(name) is not None for name in FILE_FIELDS),
                in_request=self.in_request,
            )
            node = {name: value for name, value in node.items() if name != "url"}
        self.open(node.items())

    def open_text(self, text: str) -> None:
        """If the text is JSON or an array literal, search its value next."""
        if not is_json_like(text):
            return
        self._count(text)
        try:
            value = parse_json_text(text)
        except JsonTooLargeError:
            raise SearchLimitError from None
        if value is None and text[0] == "{":
            self._separators += text.count("\\")
            if self._separators > MAX_SEPARATORS:
                raise SearchLimitError
            value = parse_array_literal(text)
        self.open([(None, value)])

    def open_list(self, text: str) -> None:
        """Search the parts of a text that lists URLs next."""
        self._count(text)
        self.open([(None, NEXT_URL.split(text))])

    def _count(self, text: str) -> None:
        """Count a text that is parsed. Raises SearchLimitError above MAX_PARSED_CHARACTERS or MAX_SEPARATORS."""
        self._parsed += len(text)
        self._separators += text.count(",")
        if self._parsed > MAX_PARSED_CHARACTERS or self._separators > MAX_SEPARATORS:
            raise SearchLimitError


def _bare_url(text: str) -> str | None:
    """Return the URL that a string without blanks around it is; None if it is none."""
    if "://" in text[:10]:
        return clean_text(text) if len(text) <= MAX_URL_CHARACTERS else None
    return clean_text(text) if is_data_uri(text) and DATA_URI.match(text) else None
