"""Finds the files in the output of a generation. An output is any JSON; how much of it is searched is bounded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from handlers.download.allowlist import Allowlist
from handlers.json_text import clean_text, parse_json
from handlers.settings import MediaSettings
from handlers.sources.refusals import Refusal, placeholder
from schemas.jobs import JobFile
from schemas.urls import MAX_URL_CHARACTERS, is_data_uri, name_from_url, printable_name, source_key

UNSUPPORTED_EXTENSIONS: Final = frozenset(
    [
        "safetensors",
        "pt",
        "pth",
        "ckpt",
        "bin",
        "npy",
        "npz",
        "onnx",
        "gguf",
        "json",
        "jsonl",
        "yaml",
        "yml",
        "toml",
        "txt",
        "csv",
        "tsv",
        "md",
        "log",
        "fbx",
        "stl",
        "mtl",
        "pkl",
    ]
)
SEARCHED: Final = (str, dict, list)
"""The types of JSON values that can be or contain a file."""
MAX_NODES: Final = 300_000
"""Maximum number of objects, lists and texts of an output that are looked at."""
MAX_URLS_PER_FILE: Final = 3
"""At most this many URLs per file of MAX_EVENT_FILES are looked at: a file may have several, and not each is a file."""


class _TooManyError(Exception):
    """A bound of the search for files is exceeded."""


@dataclass(frozen=True, slots=True)
class _NamedUrl:
    """A URL in an output. `bare`: it is a string, not the `url` of an object."""

    url: str
    name: str | None = None
    bare: bool = False


def find_files(output: Any, settings: MediaSettings, allowlist: Allowlist) -> tuple[JobFile, ...]:  # noqa: ANN401 - any JSON
    """Return the files of an output, in document order, each once.

    An object with a `url` is a file on any host; whether it may be downloaded is checked later and reported there. A
    string is a file only if the allow-list contains it. JSON in a text column is parsed. Weights, embeddings and other
    files that are not media are skipped unless UNSUPPORTED_FILES=fail.

    At most MAX_EVENT_FILES are returned. If the output has more, or is too large to be searched completely, a
    placeholder for the others is the last one: `Refusal.TOO_MANY_FILES`.
    """
    files: dict[str, JobFile] = {}
    try:
        for named in _distinct(_walk(parse_json_text(output)), MAX_URLS_PER_FILE * settings.max_event_files):
            if named.bare and not allowlist.contains(named.url):
                continue
            if settings.unsupported_files == "ignore" and _is_unsupported(named.name or name_from_url(named.url)):
                continue
            key = source_key(named.url)
            if key not in files:
                if len(files) == settings.max_event_files:
                    raise _TooManyError  # noqa: TRY301 - all bounds end the search in the same way
                files[key] = JobFile(position=len(files), url=named.url, source_key=key, file_name=named.name)
    except _TooManyError:
        return (*files.values(), placeholder(Refusal.TOO_MANY_FILES, len(files)))
    return tuple(files.values())


def parse_json_text(output: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the parsed JSON of a text column; any other output unchanged."""
    if isinstance(output, str) and output.lstrip()[:1] in {"{", "["}:
        try:
            return parse_json(output)
        except ValueError:
            return output
    return output


def _walk(output: Any) -> Iterator[_NamedUrl]:  # noqa: ANN401 - any JSON
    """Yield all URLs in document order. Uses a stack, because the nesting may be deep.

    Raises:
        _TooManyError: after MAX_NODES objects, lists and texts.
    """
    stack, nodes = [output], 0
    while stack:
        node = stack.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise _TooManyError
        if isinstance(node, dict):
            url = node.get("url")
            if isinstance(url, str) and (is_data_uri(url) or "://" in url):
                name = node.get("file_name")
                yield _NamedUrl(clean_text(url), printable_name(name) or None if isinstance(name, str) else None)
                node = {name: value for name, value in node.items() if name != "url"}
            stack.extend(value for value in reversed(node.values()) if isinstance(value, SEARCHED))
        elif isinstance(node, list):
            stack.extend(value for value in reversed(node) if isinstance(value, SEARCHED))
        elif isinstance(node, str) and "://" in node[:10] and len(node) <= MAX_URL_CHARACTERS:
            yield _NamedUrl(clean_text(node), bare=True)


def _distinct(found: Iterator[_NamedUrl], limit: int) -> Iterator[_NamedUrl]:
    """Yield each URL once. Raises _TooManyError when there are more than `limit`."""
    seen: set[tuple[str, bool]] = set()
    for named in found:
        key = (named.url, named.bare)
        if key in seen:
            continue
        if len(seen) == limit:
            raise _TooManyError
        seen.add(key)
        yield named


def _is_unsupported(name: str) -> bool:
    if "/" not in name:
        stem, _, extension = name.rpartition(".")
        return stem != "" and extension.lower() in UNSUPPORTED_EXTENSIONS
    return PurePosixPath(name).suffix.lower().removeprefix(".") in UNSUPPORTED_EXTENSIONS
