"""Finds the files in the output of a generation. An output is any JSON; how much of it is searched is bounded."""

from collections.abc import Iterator
from typing import Any, Final

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.output_urls import OutputUrl, SearchLimitError, find_urls
from handlers.sources.refusals import Refusal, placeholder
from schemas.jobs import JobFile
from schemas.urls import is_data_uri, source_key

MAX_URLS_PER_FILE: Final = 3
"""At most this many URLs per file of MAX_EVENT_FILES are looked at: a file may have several, and not each is a file."""


def find_files(output: Any, settings: MediaSettings, allowlist: Allowlist) -> tuple[JobFile, ...]:  # noqa: ANN401 - any JSON
    """Return the files of an output, in document order, each once.

    An object with a `url` is a file on any host; whether it may be downloaded is checked later and reported there. A
    string is a file only if the allow-list contains it, or if it is a `data:` URI, and not in a field that repeats the
    request. Their names do not matter: what is stored is decided by the content.

    At most MAX_EVENT_FILES are returned. If the output has more, or is too large to be searched completely, a
    placeholder for the others is the last one: `Refusal.TOO_MANY_FILES`.
    """
    files: dict[str, JobFile] = {}
    try:
        for named in _distinct(find_urls(output), MAX_URLS_PER_FILE * settings.max_event_files):
            if named.bare and not is_data_uri(named.url) and not allowlist.contains(named.url):
                continue
            key = source_key(named.url)
            if key not in files:
                if len(files) == settings.max_event_files:
                    raise SearchLimitError  # noqa: TRY301 - all bounds end the search in the same way
                files[key] = JobFile(position=len(files), url=named.url, source_key=key, file_name=named.name)
    except SearchLimitError:
        return (*files.values(), placeholder(Refusal.TOO_MANY_FILES, len(files)))
    return tuple(files.values())


def _distinct(found: Iterator[OutputUrl], limit: int) -> Iterator[OutputUrl]:
    """Yield each URL once. Raises SearchLimitError when there are more than `limit`."""
    seen: set[tuple[str, bool]] = set()
    for named in found:
        key = (named.url, named.bare)
        if key in seen:
            continue
        if len(seen) == limit:
            raise SearchLimitError
        seen.add(key)
        yield named
