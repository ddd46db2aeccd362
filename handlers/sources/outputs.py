"""Finds the files in the output of a generation. An output is any JSON; how much of it is searched is bounded."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.output_urls import OutputUrl, SearchLimitError, find_urls
from handlers.sources.refusals import Refusal, placeholder
from schemas.jobs import JobFile
from schemas.urls import MAX_URL_CHARACTERS, is_data_uri, name_from_url, source_key

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
MAX_URLS_PER_FILE: Final = 3
"""At most this many URLs per file of MAX_EVENT_FILES are looked at: a file may have several, and not each is a file."""
MAX_CHARACTERS_PER_FILE: Final = 2048
"""The URLs that are looked at have at most this many characters per file of MAX_EVENT_FILES; parsing is slow."""
COSTLY: Final = re.compile(r"[^\w.~:;,?#=@!$'()*+\[\]-]", re.ASCII)
"""Characters that separate, or are percent-encoded."""
COST: Final = 20
"""As so many characters count each costly one, and each further byte of a character that is not ASCII."""


def find_files(output: Any, settings: MediaSettings, allowlist: Allowlist) -> tuple[JobFile, ...]:  # noqa: ANN401 - any JSON
    """Return the files of an output, in document order, each once.

    An object with a `url` is a file on any host; whether it may be downloaded is checked later and reported there. A
    string is a file only if the allow-list contains it, or if it is a `data:` URI, and not in a field that repeats the
    request. Weights, embeddings and other files that are not media are skipped unless UNSUPPORTED_FILES=fail.

    At most MAX_EVENT_FILES are returned. If the output has more, or is too large to be searched completely, a
    placeholder for the others is the last one: `Refusal.TOO_MANY_FILES`.
    """
    files: dict[str, JobFile] = {}
    try:
        for named in _distinct(find_urls(output), settings.max_event_files):
            if named.bare and not is_data_uri(named.url) and not allowlist.contains(named.url):
                continue
            if settings.unsupported_files == "ignore" and _is_unsupported(named.name or name_from_url(named.url)):
                continue
            key = source_key(named.url)
            if key not in files:
                if len(files) == settings.max_event_files:
                    raise SearchLimitError  # noqa: TRY301 - all bounds end the search in the same way
                files[key] = JobFile(position=len(files), url=named.url, source_key=key, file_name=named.name)
    except SearchLimitError:
        return (*files.values(), placeholder(Refusal.TOO_MANY_FILES, len(files)))
    return tuple(files.values())


def _distinct(found: Iterator[OutputUrl], max_files: int) -> Iterator[OutputUrl]:
    """Yield each URL once. Raises SearchLimitError when there are too many for so many files, or too long ones."""
    seen: set[tuple[str, bool]] = set()
    characters = 0
    for named in found:
        key = (named.url, named.bare)
        if key in seen:
            continue
        characters += _cost(named.url)
        if len(seen) == MAX_URLS_PER_FILE * max_files or characters > MAX_CHARACTERS_PER_FILE * max_files:
            raise SearchLimitError
        seen.add(key)
        yield named


def _cost(url: str) -> int:
    """Return how many characters a URL counts, by the time that parsing takes. What is not parsed counts nothing."""
    if is_data_uri(url) or len(url) > MAX_URL_CHARACTERS:
        return 0
    further_bytes = len(url.encode()) - len(url)
    cost = len(url) + COST * (further_bytes + len(COSTLY.findall(url)))
    return max(cost, MAX_CHARACTERS_PER_FILE) if further_bytes else cost


def _is_unsupported(name: str) -> bool:
    if "/" not in name:
        stem, _, extension = name.rpartition(".")
        return stem != "" and extension.lower() in UNSUPPORTED_EXTENSIONS
    return PurePosixPath(name).suffix.lower().removeprefix(".") in UNSUPPORTED_EXTENSIONS
