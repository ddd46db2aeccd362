"""Finds the files in the output of a generation. An output is any JSON; how much of it is searched is bounded."""

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from handlers.download.allowlist import Allowlist
from handlers.errors import SourceForbiddenError
from handlers.media import MEDIA_TYPES, Kind
from handlers.settings import MediaSettings
from handlers.sources.output_fields import field_order
from handlers.sources.output_urls import OutputUrl, SearchLimitError, find_urls
from handlers.sources.refusals import Refusal, placeholder
from schemas.jobs import JobFile, SkippedFile
from schemas.urls import (
    MAX_SOURCE_URL_CHARACTERS,
    MAX_URL_CHARACTERS,
    base_name,
    is_data_uri,
    name_from_url,
    redact_url,
    source_key,
)

MEDIA_EXTENSIONS: Final = frozenset(
    [
        *(media.extension for media in MEDIA_TYPES if media.kind not in {Kind.TEXT, Kind.DATA}),
        *("jpeg", "tif", "heif", "mpga", "oga"),
    ]
)
MEDIA_FIELD: Final = re.compile(
    r"image|picture|photo|mask|frame|video|audio|sound|mesh|model_|gif|media|file|^outputs?$", re.IGNORECASE
)
REPEATED_FIELD: Final = re.compile(r"input_(image|video|audio|file|mesh|model)(_url)?s?|image_style_url", re.IGNORECASE)
"""Fields in which FAL's endpoints repeat a file of the request."""
REQUEST_FILE: Final = "request_file"
"""The code of a skipped file that belongs to the request."""
MAX_URLS_PER_FILE: Final = 3
"""MAX_EVENT_FILES times this is the maximum number of URLs to check: a file may have several, and some are no files."""
WEB_URL: Final = re.compile(r"https?://[^\s/?#]\S*", re.IGNORECASE)
"""A string that is only a link. Other text can begin with a link."""
MAX_CHARACTERS_PER_FILE: Final = 2048
"""MAX_EVENT_FILES times this is the maximum cost (`_cost`) of all checked URLs, because parsing is slow."""
COSTLY: Final = re.compile(r"[^\w.~:;,?#=@!$'()*+\[\]-]", re.ASCII)
"""Characters of a URL that are slow to parse: separators, and those that are percent-encoded."""
COST: Final = 20
"""Number of ordinary characters that take as long as a costly one, or as one more byte of a non-ASCII character."""


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The files to take from an output, and those to skip, by position. Positions are numbered across both lists."""

    files: tuple[JobFile, ...]
    skipped: tuple[SkippedFile, ...] = ()


def find_files(output: Any, settings: MediaSettings, allowlist: Allowlist) -> OutputFiles:  # noqa: ANN401 - any JSON
    """Return the files of an output, in order of their fields, each once.

    An object with a `url` is a file on any host if it looks like one; whether it may be downloaded is checked later and
    reported there. A string is a file only if the allow-list contains it, or if it is a `data:` URI, and not in a field
    that repeats the request. File names do not matter for these: the content decides what is stored. A string that
    links to another host is skipped if it looks like a file. Files of the request are skipped too: those in a field
    named for them (REPEATED_FIELD), and those whose URL is also in the request, if the output contains it (`input`).

    The order is that of `field_order`, because FAL's webhook and the row have the same output with its keys in another
    order. At most MAX_EVENT_FILES are returned; files to take have precedence over skipped ones. If the output has more
    files to take, or is too large to be searched completely, the last file is a placeholder for the others:
    `Refusal.TOO_MANY_FILES`.
    """
    found = _Candidates(settings, allowlist)
    try:
        for named in find_urls(output):
            found.add(named)
    except SearchLimitError:
        found.complete = False
    candidates = list(enumerate(found.in_order()))
    files = [candidate.file(position) for position, candidate in candidates if candidate.code is None]
    if not found.complete:
        files.append(placeholder(Refusal.TOO_MANY_FILES, len(candidates)))
    skipped = [candidate.skipped(position, candidate.code) for position, candidate in candidates if candidate.code]
    return OutputFiles(tuple(files), tuple(skipped))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file in an output; with `code`, a file that is skipped for this reason. `order`: the field's `field_order`."""

    named: OutputUrl
    key: str
    code: str | None
    order: str

    def preference(self) -> tuple[bool, str]:
        """Return the sort key that chooses among candidates: files before skipped files, then by field."""
        return self.code is not None, self.order

    def file(self, position: int) -> JobFile:
        """Return the file to take."""
        named = self.named
        return JobFile(position=position, url=named.url, source_key=self.key, file_name=named.name, field=named.field)

    def skipped(self, position: int, code: str) -> SkippedFile:
        """Return the record of the file that is skipped."""
        named = self.named
        return SkippedFile(
            position=position,
            source_url=redact_url(named.url)[:MAX_SOURCE_URL_CHARACTERS],
            source_key=self.key,
            original_filename=base_name(named.name or "") or name_from_url(named.url),
            field=named.field,
            code=code,
        )


class _Candidates:
    """Collects the candidates of an output by source key. `complete`: the output names no other files to take."""

    def __init__(self, settings: MediaSettings, allowlist: Allowlist) -> None:
        self.complete = True
        self._settings = settings
        self._allowlist = allowlist
        self._limit = MAX_URLS_PER_FILE * settings.max_event_files
        self._repeats = 0
        self._characters = 0
        self._requested_characters = 0
        self._requested: dict[str, _Candidate] = {}
        self._seen: dict[tuple[str, bool, str | None], _Candidate | None] = {}
        self._candidates: dict[str, _Candidate] = {}

    def add(self, named: OutputUrl) -> None:
        """Add a URL. Raises SearchLimitError when there are too many."""
        if named.in_request:
            self._add_requested(named)
            return
        seen = (named.url, named.bare, named.name)
        if seen in self._seen:
            candidate = self._repeated(self._seen[seen], named)
        else:
            self._count(named.url)
            candidate = self._seen[seen] = self._candidate_of(named)
        if candidate is not None:
            current = self._candidates.get(candidate.key)
            if current is None or candidate.preference() < current.preference():
                self._candidates[candidate.key] = candidate

    def _add_requested(self, named: OutputUrl) -> None:
        """Add a URL of the request. Those above the limits are ignored, so that they displace no file."""
        cost = _cost(named.url)
        limit = MAX_CHARACTERS_PER_FILE * self._settings.max_event_files
        if len(self._requested) < self._settings.max_event_files and self._requested_characters + cost <= limit:
            self._requested_characters += cost
            candidate = self._candidate_of(named)
            if candidate is not None:
                self._requested.setdefault(candidate.key, replace(candidate, code=REQUEST_FILE))

    def _count(self, url: str) -> None:
        """Count another URL. Raises SearchLimitError when the URLs are too many, or too long, for MAX_EVENT_FILES."""
        self._characters += _cost(url)
        too_long = self._characters > MAX_CHARACTERS_PER_FILE * self._settings.max_event_files
        if too_long or len(self._seen) == self._limit:
            raise SearchLimitError

    def _repeated(self, earlier: _Candidate | None, named: OutputUrl) -> _Candidate | None:
        """Return the earlier candidate with the field of `named`; None without one, and after `_limit` repetitions."""
        self._repeats += 1
        if earlier is None or self._repeats > self._limit:
            return None
        return replace(earlier, named=named, order=field_order(named.field))

    def in_order(self) -> list[_Candidate]:
        """Return at most MAX_EVENT_FILES candidates, in order of field: files to take, and as many skipped ones as fit.

        Fields that were cut may be equal. Then the order is that of the document.
        """
        for key, requested in self._requested.items():
            repeated = self._candidates.get(key, requested)
            self._candidates[key] = replace(repeated, code=REQUEST_FILE)
        preferred = sorted(self._candidates.values(), key=_Candidate.preference)
        limit = self._settings.max_event_files
        if any(candidate.code is None for candidate in preferred[limit:]):
            self.complete = False
        return sorted(preferred[:limit], key=lambda candidate: candidate.order)

    def _candidate_of(self, named: OutputUrl) -> _Candidate | None:
        """Return the candidate for a URL; None for a link that is no file."""
        code = REQUEST_FILE if REPEATED_FIELD.fullmatch(_key(named)) else None
        if not is_data_uri(named.url) and not named.described and not self._allowlist.contains(named.url):
            if not _may_be_file(named):
                return None
            code = SourceForbiddenError.default_code if named.bare else code
        return _Candidate(named, source_key(named.url), code, field_order(named.field))


def _cost(url: str) -> int:
    """Return the cost of parsing a URL, as a number of ordinary characters; 0 for a URL that is not parsed."""
    if is_data_uri(url) or len(url) > MAX_URL_CHARACTERS:
        return 0
    further_bytes = len(url.encode()) - len(url)
    cost = len(url) + COST * (further_bytes + len(COSTLY.findall(url)))
    international = further_bytes > 0 or "xn--" in url.lower()  # such a host takes about 1 ms
    return max(cost, MAX_CHARACTERS_PER_FILE) if international else cost


def _may_be_file(named: OutputUrl) -> bool:
    """Return whether a link to a host that is not on the allow-list looks like a file of the output."""
    if named.bare and WEB_URL.fullmatch(named.url) is None:
        return False
    key = _key(named)
    return key == "" or MEDIA_FIELD.search(key) is not None or _extension(name_from_url(named.url)) in MEDIA_EXTENSIONS


def _key(named: OutputUrl) -> str:
    """Return the name of the field that has the URL, or the object with it; empty for the output itself and lists."""
    field = named.field if named.bare else named.field.rpartition("url")[0].removesuffix(".")
    return field.rpartition(".")[2].partition("[")[0]


def _extension(name: str) -> str:
    """Return the part of a file name after its last dot, in lower case; empty without one."""
    if "/" not in name:
        stem, _, extension = name.rpartition(".")
        return extension.lower() if stem else ""
    return PurePosixPath(name).suffix.lower().removeprefix(".")
